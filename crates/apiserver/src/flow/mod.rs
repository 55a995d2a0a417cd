//! Priority and fairness: how many requests are worked on at once, and whose turn it is.
//!
//! Every request from outside belongs to a flow schema and thereby to a priority level, which has a part of
//! the server's seats ([`level`]). Levels that do not need their seats lend them to others ([`borrow`]).
//! What in-process components ask for is exempt: they are the system itself. The objects that say all this
//! are kept by the `controller`, after upstream's `util/flowcontrol`.
//!
//! Unlike upstream's, a mutating request takes one seat however many watches it wakes: events are encoded
//! once for all of them. Bodies are read before a seat is taken, so that slow senders hold none.

mod bootstrap;
mod borrow;
mod config;
mod controller;
mod counts;
mod dump;
mod level;
mod retry;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use api::user::UserInfo;
use aws_lc_rs::digest::{Context, SHA256};
use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use tokio::sync::watch;

use crate::audit::is_long_running;
use crate::body::Body;
use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::server::Inner;
use crate::service::plain;
use borrow::Wish;
use config::{CATCH_ALL, FlowSchema, PriorityLevel};
use counts::{AllCounts, Counts};
use level::Level;

pub(crate) use controller::start;
pub(crate) use counts::Seats;

/// Requests worked on at once, all priority levels together: upstream's `--max-requests-inflight` and
/// `--max-mutating-requests-inflight`. Most of them wait for the store's next group commit, and the more
/// of them do, the more each commit carries.
pub(crate) const SEATS: u32 = 600;
/// How long a request may wait in a queue: a quarter of upstream's request timeout.
const PATIENCE: Duration = Duration::from_secs(15);
/// A list takes at most so many seats, one for each of these bytes, and no list loads more than the last.
const LIST_SEATS_MAX: u64 = 10;
const LIST_BYTES_PER_SEAT: u64 = 100_000;
const LIST_BYTES_MAX: u64 = 1_000_000;
/// The part of a level's seats that one request may take.
const LEVEL_WIDTH_MAX: f64 = 0.15;
/// How much of the difference remains in each round while the estimate of a level's demand falls.
const DEMAND_MEMORY: f64 = 0.977;

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// The flow control of one server.
pub(crate) struct Flow {
    config: RwLock<Arc<Config>>,
    /// Counts the changes of objects that the configuration comes from.
    changes: watch::Sender<u64>,
    seats: u32,
    counts: AllCounts,
    levels: Mutex<BTreeMap<String, State>>,
}

/// What requests are judged by.
#[derive(Default)]
struct Config {
    /// In matching order; the last one matches everything.
    schemas: Vec<Arc<Schema>>,
}

/// A flow schema in force. What requests that match it need is at hand.
pub(crate) struct Schema {
    object: FlowSchema,
    level: Arc<Level>,
    counts: Arc<Counts>,
    uid: HeaderValue,
    level_uid: HeaderValue,
}

/// A priority level in force.
struct State {
    level: Arc<Level>,
    object: PriorityLevel,
    nominal: f64,
    lower: f64,
    upper: f64,
    /// The demand that is reckoned with: rises at once, falls slowly.
    smoothed: f64,
    watermark: f64,
}

/// A request that may go on, or was refused, and what its answer says about that.
pub(crate) struct Admission {
    schema: Arc<Schema>,
    /// The seats, or how many seconds later the client may come back.
    outcome: Result<Seats, i64>,
}

impl Admission {
    /// The seats to be held for as long as the request is worked on, or the answer of refusal.
    pub fn into_outcome(self) -> (Arc<Schema>, Result<Seats, Box<Response<Body>>>) {
        (self.schema, self.outcome.map_err(|seconds| Box::new(refusal(seconds))))
    }
}

impl Schema {
    /// Tells the client how its request was classified.
    pub fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(SCHEMA_UID, self.uid.clone());
        headers.insert(LEVEL_UID, self.level_uid.clone());
    }
}

fn refusal(seconds: i64) -> Response<Body> {
    let text = "Too many requests, please try again later.\n";
    let mut answer = plain(StatusCode::TOO_MANY_REQUESTS, text);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    answer
}

impl Flow {
    /// Only the two mandatory flow schemas, until there is a configuration.
    pub fn new(seats: u32) -> Self {
        let flow = Self {
            config: RwLock::default(),
            changes: watch::Sender::new(0),
            seats,
            counts: AllCounts::default(),
            levels: Mutex::default(),
        };
        flow.configure(Vec::new(), Vec::new());
        flow
    }

    /// Takes over a change of the cache.
    pub fn apply(&self, key: &str) {
        if controller::concerns(key) {
            self.changed();
        }
    }

    /// Everything has to be looked at again.
    pub fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Waits for seats. `None` for what needs none: streams that are no watches.
    pub async fn admit(
        &self,
        server: &Inner,
        user: &UserInfo,
        info: &RequestInfo,
        query: &Query,
    ) -> Option<Admission> {
        if is_long_running(info) && info.verb != "watch" {
            return None;
        }
        let schema = self.classify(user, info)?;
        let level = &schema.level;
        let seats = width(server, info, query, level.width_max.load(Ordering::Relaxed));
        let flow = || hash_flow(&schema.object.metadata.name, schema.object.flow(user, info));
        let waiting = schema.counts.wait();
        let outcome = match level.acquire(seats, flow, PATIENCE).await {
            Ok(permit) => Ok(waiting.dispatched(permit)),
            Err(why) => {
                waiting.rejected(why);
                tracing::debug!(level = level.name, ?why, user = user.name, "a request was refused");
                Err(level.retry_after.refused(base::clock::now().as_second()))
            }
        };
        Some(Admission { outcome, schema })
    }

    fn classify(&self, user: &UserInfo, info: &RequestInfo) -> Option<Arc<Schema>> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        let matching = config.schemas.iter().find(|schema| schema.object.matches(user, info));
        matching.or(config.schemas.last()).cloned()
    }

    /// Puts a configuration in force; answers with the names of the levels that exist.
    fn configure(&self, mut schemas: Vec<FlowSchema>, objects: Vec<PriorityLevel>) -> BTreeSet<String> {
        let mut objects: Vec<PriorityLevel> = objects.into_iter().filter(PriorityLevel::is_sound).collect();
        let known: BTreeSet<String> = objects.iter().map(|level| level.metadata.name.clone()).collect();
        schemas.retain(|schema| known.contains(&schema.spec.priority_level_configuration.name));
        // What cannot be missing is there even if its object is not.
        let missing = |name: &str| !known.contains(name);
        let shipped = bootstrap::levels().into_iter().filter(|shipped| shipped.mandatory);
        let imagined = shipped.filter(|shipped| missing(shipped.name()));
        objects.extend(imagined.filter_map(|shipped| serde_json::from_value(shipped.object).ok()));
        let shipped = bootstrap::schemas().into_iter().filter(|shipped| shipped.mandatory);
        let imagined: Vec<_> = shipped
            .filter(|shipped| schemas.iter().all(|schema| schema.metadata.name != shipped.name()))
            .filter_map(|shipped| serde_json::from_value(shipped.object).ok())
            .collect();
        schemas.extend(imagined);
        schemas.sort_by(|a, b| {
            let order =
                |schema: &FlowSchema| (schema.metadata.name == CATCH_ALL, schema.spec.matching_precedence);
            order(a).cmp(&order(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
        });
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        self.set_levels(&mut levels, objects);
        let uid = |uid: &str| HeaderValue::from_str(uid).unwrap_or(HeaderValue::from_static(""));
        let schemas = schemas.into_iter().filter_map(|object| {
            let state = levels.get(&object.spec.priority_level_configuration.name)?;
            let (uid, level_uid) = (uid(&object.metadata.uid), uid(&state.object.metadata.uid));
            let counts = self.counts.of(&state.level.name, &object.metadata.name);
            Some(Arc::new(Schema { level: state.level.clone(), counts, object, uid, level_uid }))
        });
        let config = Config { schemas: schemas.collect() };
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        known
    }

    /// Divides the seats by shares. Levels that are gone live on, with what they had, in those that still
    /// hold or await their seats.
    fn set_levels(&self, levels: &mut BTreeMap<String, State>, objects: Vec<PriorityLevel>) {
        let shares: f64 = objects.iter().map(PriorityLevel::shares).sum();
        let mut old = std::mem::take(levels);
        for object in objects {
            let name = object.metadata.name.clone();
            let nominal = (f64::from(self.seats) * object.shares() / shares.max(1.0)).ceil();
            let lower = nominal - (nominal * object.lendable()).round();
            let upper =
                nominal + object.borrowing().map_or(f64::from(self.seats), |part| (nominal * part).round());
            let known = old.remove(&name).filter(|state| state.object.is_exempt() == object.is_exempt());
            let (level, smoothed) = match known {
                Some(known) => (known.level, known.smoothed),
                None => {
                    let level = Arc::new(Level::new(&name, object.is_exempt()));
                    level.set_limit((nominal - (nominal - lower) / 2.0) as u64);
                    (level, 0.0)
                }
            };
            level.set_queuing(object.queuing());
            let hand = f64::from(object.queuing().map_or(1, |queuing| queuing.hand_size));
            let width = (nominal * LEVEL_WIDTH_MAX).ceil().min((nominal / hand).floor()).max(1.0);
            let width = if object.queuing().is_some() { width as u64 } else { LIST_SEATS_MAX };
            level.width_max.store(width.min(LIST_SEATS_MAX), Ordering::Relaxed);
            let watermark = level.take_demand() as f64;
            let state = State { level, object, nominal, lower, upper, smoothed, watermark };
            levels.insert(name, state);
        }
        lend(levels);
    }

    /// Looks at what the levels needed lately, and moves seats to where they are needed.
    fn rebalance(&self) {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        for state in levels.values_mut() {
            state.watermark = state.level.take_demand() as f64;
            state.smoothed = if state.watermark >= state.smoothed {
                state.watermark
            } else {
                DEMAND_MEMORY * state.smoothed + (1.0 - DEMAND_MEMORY) * state.watermark
            };
        }
        lend(&levels);
    }
}

/// Sets the limits of all levels: upstream's `updateBorrowingLocked`.
fn lend(levels: &BTreeMap<String, State>) {
    let nominal: f64 = levels.values().map(|state| state.nominal).sum();
    let is_exempt = |state: &&State| state.object.is_exempt();
    let exempt: f64 = levels.values().filter(is_exempt).map(|state| state.lower.max(state.watermark)).sum();
    let limited: Vec<&State> = levels.values().filter(|state| !state.object.is_exempt()).collect();
    let wish = |state: &&State| {
        let lower = state.lower.max(state.nominal.min(state.watermark));
        Wish { lower, upper: state.upper, target: lower.max(state.smoothed) }
    };
    let wishes: Vec<Wish> = limited.iter().map(wish).collect();
    let left = nominal - exempt;
    let least: f64 = limited.iter().map(|state| state.lower).sum();
    let wanted: f64 = wishes.iter().map(|wish| wish.lower).sum();
    let limits: Option<Vec<f64>> = if left <= least {
        Some(limited.iter().map(|state| state.lower).collect())
    } else if left <= wanted {
        let part = (left - least) / (wanted - least);
        let both = limited.iter().zip(&wishes);
        Some(both.map(|(state, wish)| state.lower + (wish.lower - state.lower) * part).collect())
    } else {
        borrow::share(nominal, &wishes)
    };
    for (state, limit) in limited.iter().zip(limits.into_iter().flatten()) {
        state.level.set_limit(limit.round() as u64);
    }
}

/// Upstream's `hashFlowID`.
fn hash_flow(schema: &str, flow: &str) -> u64 {
    let mut context = Context::new(&SHA256);
    context.update(schema.as_bytes());
    context.update(&[0]);
    context.update(flow.as_bytes());
    let digest = context.finish();
    digest.as_ref().first_chunk().map_or(0, |start| u64::from_le_bytes(*start))
}

/// How many seats a request takes: lists by what they have to go through (upstream's
/// `list_work_estimator`), all others one.
fn width(server: &Inner, info: &RequestInfo, query: &Query, most: u64) -> u64 {
    let lists = match info.verb.as_str() {
        "list" => true,
        "watch" => query.flag("sendInitialEvents") || matches!(query.text("resourceVersion"), "" | "0"),
        _ => false,
    };
    if !lists || !info.name.is_empty() {
        return 1;
    }
    let registry = server.registry();
    let Some(kind) = registry.resource(&info.group, &info.version, &info.resource) else { return 1 };
    let Some(resource) = server.cache_of(kind).resource(&kind.storage.dir) else { return 1 };
    let (count, size) = resource.count_and_size();
    let (count, size) = (count as u64, size as u64);
    let limit = query.text("limit").parse().unwrap_or(0);
    let objects = if limit > 0 { count.min(limit) } else { count };
    let bytes = (objects * size).min(LIST_BYTES_MAX);
    bytes.div_ceil(LIST_BYTES_PER_SEAT).clamp(1, LIST_SEATS_MAX.min(most).max(1))
}
