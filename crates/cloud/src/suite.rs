//! What every [`Cloud`] must do. Each function is one property; [`run`] calls them all.
//!
//! Call it on tokio's paused clock if the provider boots machines in virtual time.

use std::sync::Arc;

use api::instance::OfferingKey;
use tokio::sync::broadcast::error::RecvError;

use crate::{Cloud, CloudError, CloudEvent, InstanceId, LaunchRequest};

/// Takes away (`false`) or gives back (`true`) the capacity of an offering.
pub type SetCapacity = Box<dyn Fn(&OfferingKey, bool) + Send + Sync>;

/// A fresh cloud under test and the levers to make trouble in it.
pub struct Bench {
    /// The provider.
    pub cloud: Arc<dyn Cloud>,
    /// Takes away (`false`) or gives back (`true`) the capacity of an offering.
    pub set_capacity: SetCapacity,
    /// Has the cloud take a machine back after its usual warning.
    pub interrupt: Box<dyn Fn(&InstanceId) + Send + Sync>,
}

/// Runs the whole suite; `fresh` makes a cloud without machines.
pub async fn run(fresh: impl Fn() -> Bench) {
    the_catalogue_is_usable(&fresh());
    machines_come_and_go(&fresh()).await;
    a_claim_gets_one_machine(&fresh()).await;
    missing_capacity_leads_to_the_next_offering(&fresh()).await;
    nothing_available_names_what_was_tried(&fresh()).await;
    unknown_offerings_are_given_up(&fresh()).await;
    a_warning_precedes_the_end(&fresh()).await;
}

/// The first available offerings, cheapest first.
fn offerings(bench: &Bench, count: usize) -> Vec<OfferingKey> {
    let catalogue = bench.cloud.catalogue();
    let mut known: Vec<_> = catalogue
        .iter()
        .flat_map(|kind| kind.offerings.iter().map(move |offering| (kind, offering)))
        .filter(|(_, offering)| offering.available)
        .collect();
    known.sort_by(|a, b| a.1.dollars_per_hour.total_cmp(&b.1.dollars_per_hour));
    known.into_iter().take(count).map(|(kind, offering)| kind.key(offering)).collect()
}

fn request(claim: &str, offerings: Vec<OfferingKey>) -> LaunchRequest {
    LaunchRequest { claim: claim.to_owned(), offerings, ..LaunchRequest::default() }
}

/// Names are unique, amounts and prices positive, and pods cannot use more than there is.
pub fn the_catalogue_is_usable(bench: &Bench) {
    let catalogue = bench.cloud.catalogue();
    assert!(!catalogue.is_empty(), "there is something to rent");
    let mut names: Vec<_> = catalogue.iter().map(|kind| kind.name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), catalogue.len(), "names are unique");
    for kind in catalogue.iter() {
        let (all, usable) = (&kind.capacity, &kind.allocatable);
        assert!(usable.cpu_milli > 0 && usable.memory_bytes > 0 && usable.pods > 0, "{}", kind.name);
        assert!(
            usable.cpu_milli <= all.cpu_milli && usable.memory_bytes <= all.memory_bytes,
            "{}",
            kind.name
        );
        assert!(!kind.offerings.is_empty(), "{} is offered somewhere", kind.name);
        for offering in &kind.offerings {
            let price = offering.dollars_per_hour;
            assert!(price.is_finite() && price > 0.0, "{}: {price}", kind.key(offering));
        }
    }
}

/// What was launched can be found until it is terminated; then it cannot.
pub async fn machines_come_and_go(bench: &Bench) {
    let wanted = offerings(bench, 1);
    let launched = bench.cloud.launch(&request("one", wanted.clone())).await.expect("there is capacity");
    let instance = launched.instance;
    assert_eq!((instance.claim.as_str(), &instance.offering), ("one", &wanted[0]));
    assert_eq!(bench.cloud.get(&instance.id).await, Ok(instance.clone()));
    assert_eq!(bench.cloud.list().await, Ok(vec![instance.clone()]));
    assert_eq!(bench.cloud.terminate(&instance.id).await, Ok(()));
    assert_eq!(bench.cloud.get(&instance.id).await, Err(CloudError::NotFound(instance.id.clone())));
    assert_eq!(bench.cloud.terminate(&instance.id).await, Err(CloudError::NotFound(instance.id.clone())));
    assert_eq!(bench.cloud.list().await, Ok(Vec::new()));
}

/// Launching twice for one claim is launching once.
pub async fn a_claim_gets_one_machine(bench: &Bench) {
    let wanted = offerings(bench, 2);
    let first = bench.cloud.launch(&request("one", wanted.clone())).await.expect("there is capacity");
    let again = bench.cloud.launch(&request("one", wanted.clone())).await.expect("there is capacity");
    assert_eq!(first.instance, again.instance);
    let other = bench.cloud.launch(&request("two", wanted)).await.expect("there is capacity");
    assert_ne!(first.instance.id, other.instance.id);
    assert_eq!(bench.cloud.list().await.expect("listing works").len(), 2);
}

/// The next offering is taken, the missing one is named, and both come back with the capacity.
pub async fn missing_capacity_leads_to_the_next_offering(bench: &Bench) {
    let wanted = offerings(bench, 2);
    (bench.set_capacity)(&wanted[0], false);
    let launched = bench.cloud.launch(&request("one", wanted.clone())).await.expect("the second has some");
    assert_eq!(launched.instance.offering, wanted[1]);
    assert_eq!(launched.unavailable, [wanted[0].clone()]);
    (bench.set_capacity)(&wanted[0], true);
    let launched = bench.cloud.launch(&request("two", wanted.clone())).await.expect("both have some");
    assert_eq!(launched.instance.offering, wanted[0]);
}

/// The error says which offerings to leave alone.
pub async fn nothing_available_names_what_was_tried(bench: &Bench) {
    let wanted = offerings(bench, 2);
    for offering in &wanted {
        (bench.set_capacity)(offering, false);
    }
    let error = bench.cloud.launch(&request("one", wanted.clone())).await.expect_err("there is no capacity");
    assert_eq!(error, CloudError::InsufficientCapacity { offerings: wanted });
    assert_eq!(bench.cloud.list().await, Ok(Vec::new()));
}

/// A request without any offering of the catalogue can never succeed.
pub async fn unknown_offerings_are_given_up(bench: &Bench) {
    let mut unknown = offerings(bench, 1);
    unknown[0].instance_type = "no-such-type".into();
    for offerings in [unknown, Vec::new()] {
        let answer = bench.cloud.launch(&request("one", offerings)).await;
        assert!(matches!(answer, Err(CloudError::GiveUp(_))), "{answer:?}");
    }
}

/// An interrupted machine is announced, with a deadline ahead, before it is gone.
pub async fn a_warning_precedes_the_end(bench: &Bench) {
    let mut events = bench.cloud.events();
    let launched = bench.cloud.launch(&request("one", offerings(bench, 1))).await.expect("there is capacity");
    let id = launched.instance.id;
    (bench.interrupt)(&id);
    let mut warned = None;
    loop {
        match events.recv().await {
            Ok(CloudEvent::Interruption { instance, deadline }) if instance == id => {
                assert!(
                    bench.cloud.get(&id).await.is_ok(),
                    "the machine is still there when the warning comes"
                );
                warned = Some(deadline);
            }
            Ok(CloudEvent::Gone { instance }) if instance == id => break,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => panic!("the events ended"),
        }
    }
    let launched = launched.instance.launched;
    assert!(warned.is_some_and(|deadline| deadline > launched), "a warning came first");
    assert_eq!(bench.cloud.get(&id).await, Err(CloudError::NotFound(id)));
}
