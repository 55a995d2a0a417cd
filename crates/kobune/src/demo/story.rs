//! The plot: calm, a tenfold rush, calm again; each step is noted when the world shows it.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

use super::screen::Screen;
use super::world::{View, World};

/// How often the world is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// No phase of the story may take longer.
const PHASE_MAX: Duration = Duration::from_secs(60);
/// How long nothing may change until a phase counts as settled.
const SETTLED: Duration = Duration::from_millis(2500);

/// The traffic, and what it should lead to.
pub struct Scenario {
    /// What is deployed, in a sentence.
    pub opening: &'static str,
    /// Requests per second in calm.
    pub traffic: f64,
    /// Requests per second in the rush.
    pub peak: f64,
    /// CPU that a pod should use, in millicores.
    pub target_milli: f64,
    /// How many times that it may use for the autoscaler to have nothing to do. Real CPU time varies a bit.
    pub tolerance: f64,
    /// Whether nodes are bought for the pods.
    pub buys_nodes: bool,
}

impl Scenario {
    /// Whether the pods use about what the autoscaler aims at.
    fn is_balanced(&self, view: &View) -> bool {
        view.cpu_milli < self.target_milli * self.tolerance
    }

    /// Whether everything is served, by pods that use about what they should.
    fn is_calm(&self, view: &View) -> bool {
        view.ready > 0 && view.ready == view.pods && view.is_served() && self.is_balanced(view)
    }
}

/// What happened, for the report.
pub struct Told {
    /// The steps in order: what, and when after the traffic changed.
    pub up: Vec<(&'static str, Duration, String)>,
    /// The same for the way down.
    pub down: Vec<(&'static str, Duration, String)>,
    /// The world before the rush, at its peak, and after.
    pub before: View,
    /// At the peak.
    pub peak: View,
    /// The most nodes there were.
    pub peak_nodes: usize,
    /// The most dollars per hour.
    pub peak_dollars: f64,
    /// The largest number of pods without a node.
    pub peak_pending: usize,
    /// Afterwards.
    pub after: View,
    /// From the start of the demo to its end.
    pub took: Duration,
}

/// A step of the story: a text, and what in the world shows that it has happened.
type Step<'a> = (&'static str, Box<dyn Fn(&View) -> Option<String> + 'a>);

/// Tells the story on a cluster that runs the demo's application in calm traffic.
pub async fn tell(world: &World, scenario: &Scenario, screen: &Screen) -> Result<Told> {
    let began = Instant::now();
    screen.say(&format!("{}; {} requests/s.", scenario.opening, scenario.traffic));
    let mut peaks = Peaks::default();
    let autoscaled = |view: &View| view.wanted > 0 && scenario.is_calm(view);
    let before = settle(world, screen, began, &mut peaks, autoscaled).await?;
    screen.say(&format!("Calm: {}.\n", before.standing()));

    screen.say(&format!("Traffic rises to {} requests/s.", scenario.peak));
    world.set_traffic(scenario.peak).await?;
    let mut peaks = Peaks::default();
    let up = follow(world, screen, began, &mut peaks, rising(&before, scenario)).await?;
    let peak = settle(world, screen, began, &mut peaks, |view| scenario.is_calm(view)).await?;
    screen.say(&format!("Peak: {}.\n", peak.standing()));

    screen.say(&format!("Traffic falls back to {} requests/s.", scenario.traffic));
    world.set_traffic(scenario.traffic).await?;
    let down = follow(world, screen, began, &mut peaks, falling(&before, &peak, scenario)).await?;
    let served = |view: &View| view.pending == 0 && view.is_served();
    let after = settle(world, screen, began, &mut peaks, served).await?;
    Ok(Told {
        up,
        down,
        before,
        peak,
        peak_nodes: peaks.nodes,
        peak_dollars: peaks.dollars,
        peak_pending: peaks.pending,
        after,
        took: began.elapsed(),
    })
}

/// Waits until the pods serve what is offered, and have done nothing else for a while.
pub async fn calm(world: &World, scenario: &Scenario, screen: &Screen) -> Result<()> {
    let measured = |view: &View| view.cpu_milli > 0.0 && scenario.is_calm(view);
    settle(world, screen, Instant::now(), &mut Peaks::default(), measured).await?;
    Ok(())
}

fn rising<'a>(before: &'a View, scenario: &Scenario) -> Vec<Step<'a>> {
    let target_milli = scenario.target_milli;
    let mut steps: Vec<Step<'a>> = vec![
        (
            "① metrics rise",
            Box::new(move |view| {
                (view.cpu_milli > target_milli * 1.2)
                    .then(|| format!("{:.0}m per pod, target {target_milli:.0}m", view.cpu_milli))
            }),
        ),
        (
            "② replicas decided",
            Box::new(move |view| {
                (view.wanted > before.wanted).then(|| format!("{} → {}", before.wanted, view.wanted))
            }),
        ),
        (
            "③ Deployment updated",
            Box::new(move |view| {
                (view.replicas > before.replicas).then(|| format!("{} → {}", before.replicas, view.replicas))
            }),
        ),
        (
            "④ pods created",
            Box::new(move |view| {
                let created =
                    view.pods > before.pods && view.pods >= usize::try_from(view.replicas).unwrap_or(0);
                created.then(|| match view.requests {
                    None => format!("{} pods, {} of them pending", view.pods, view.pending),
                    Some(_) => format!("{} pods, {} of them ready", view.pods, view.ready),
                })
            }),
        ),
    ];
    if scenario.buys_nodes {
        steps.push((
            "⑤ nodes bought",
            Box::new(move |view| {
                (view.node_count() > before.node_count())
                    .then(|| format!("{} → {}", before.nodes_text(), view.nodes_text()))
            }),
        ));
    }
    steps.push((
        "⑥ all traffic served",
        Box::new(move |view| {
            let served = view.is_served() && view.ready > before.ready && view.ready == view.pods;
            served.then(|| match &view.requests {
                None => format!("{} pods ready on {} nodes", view.ready, view.nodes_ready),
                Some(requests) => {
                    format!("{} pods ready, answers in {}", view.ready, requests.latency_text())
                }
            })
        }),
    ));
    steps
}

fn falling<'a>(before: &'a View, peak: &'a View, scenario: &Scenario) -> Vec<Step<'a>> {
    let reduced: Step<'a> = (
        "⑦ replicas reduced",
        Box::new(move |view| {
            (view.replicas <= before.replicas + 1).then(|| format!("{} → {}", peak.replicas, view.replicas))
        }),
    );
    let returned: Step<'a> = if scenario.buys_nodes {
        (
            "⑧ nodes returned",
            Box::new(move |view| {
                let returned = view.node_count() <= before.node_count() + 1
                    && view.dollars_per_hour < peak.dollars_per_hour;
                returned.then(|| format!("{} → {}", peak.nodes_text(), view.nodes_text()))
            }),
        )
    } else {
        (
            "⑧ containers gone",
            Box::new(move |view| {
                let gone = view.leaving == 0 && view.pods <= before.pods + 1;
                gone.then(|| format!("{} → {} pods", peak.pods, view.pods))
            }),
        )
    };
    vec![reduced, returned]
}

/// Notes each step when the world shows it, in order.
async fn follow(
    world: &World,
    screen: &Screen,
    began: Instant,
    peaks: &mut Peaks,
    steps: Vec<Step<'_>>,
) -> Result<Vec<(&'static str, Duration, String)>> {
    let (changed, mut told) = (Instant::now(), Vec::new());
    for (what, shown) in steps {
        let detail = loop {
            let view = look(world, screen, began, peaks);
            if let Some(detail) = shown(&view) {
                break detail;
            }
            if changed.elapsed() > PHASE_MAX {
                bail!("the demo waited {} s in vain for: {what}; the world is {view:?}", PHASE_MAX.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        };
        let after = changed.elapsed();
        screen.say(&format!("  {:>6.2} s  {what:<22} {detail}", after.as_secs_f64()));
        told.push((what, after, detail));
    }
    Ok(told)
}

/// Waits until `holds` and nothing has changed for a moment.
async fn settle(
    world: &World,
    screen: &Screen,
    began: Instant,
    peaks: &mut Peaks,
    holds: impl Fn(&View) -> bool,
) -> Result<View> {
    let (started, mut since) = (Instant::now(), Instant::now());
    let mut last = View::default();
    loop {
        let view = look(world, screen, began, peaks);
        if !holds(&view) || shape(&view) != shape(&last) {
            since = Instant::now();
        }
        if since.elapsed() >= SETTLED {
            return Ok(view);
        }
        if started.elapsed() > PHASE_MAX {
            bail!("the world did not settle within {} s: {view:?}", PHASE_MAX.as_secs());
        }
        last = view;
        tokio::time::sleep(LOOK).await;
    }
}

/// What must stay the same for the world to be settled.
fn shape(view: &View) -> (i32, usize, usize, usize, usize) {
    (view.replicas, view.ready, view.pending, view.node_count(), view.nodes_ready)
}

/// The largest values seen.
#[derive(Default)]
struct Peaks {
    nodes: usize,
    dollars: f64,
    pending: usize,
}

fn look(world: &World, screen: &Screen, began: Instant, peaks: &mut Peaks) -> View {
    let view = world.view();
    peaks.nodes = peaks.nodes.max(view.node_count());
    peaks.dollars = peaks.dollars.max(view.dollars_per_hour);
    peaks.pending = peaks.pending.max(view.pending);
    screen.show(began.elapsed(), &view);
    view
}
