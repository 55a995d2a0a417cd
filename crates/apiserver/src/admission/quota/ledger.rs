//! Charges that have been accepted and wait for their quota's status to be written.
//!
//! Per quota there is at most one write under way; what is charged meanwhile goes into the next one. A
//! write is conditional on the revision that the sum is based on, so that a change by anybody else (the
//! quota controller, an administrator) is seen: then what waits is fitted into the new numbers.
//!
//! A status written by somebody else cannot know of objects whose charge it has seen, but which are not
//! stored yet. Should one come while there are such objects, they are charged again: too much for a
//! moment, until the next recount, but never too little.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::resource_list::{self as lists, ResourceList};
use store::{Compare, Revision};
use tokio::sync::oneshot;

use super::Quota;
use crate::admission::Reservation;
use crate::cache::Entry;
use crate::call::Call;
use crate::kind::Kind;
use crate::managed_fields;
use crate::server::Inner;
use crate::status::ApiError;
use crate::storage::PutError;

/// Who owns what is written: the API server, as upstream's calls itself.
const MANAGER: &str = "kube-apiserver";
/// How often a write is tried on a newer status.
const ATTEMPTS: usize = 20;
/// How long a request waits for its quotas, as upstream.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a request wants of one quota.
pub(super) struct Demand {
    /// The quota's storage key.
    pub key: Arc<str>,
    pub delta: ResourceList,
}

/// Why a request gets nothing.
pub(super) enum Refusal {
    /// The quota is used up: upstream's words.
    Exceeded(String),
    Other(ApiError),
}

/// All quotas that something has been charged to lately.
#[derive(Default)]
pub(crate) struct Ledger {
    accounts: Mutex<BTreeMap<Arc<str>, Account>>,
}

/// One quota.
struct Account {
    quota: Arc<Quota>,
    /// The revision of the quota that `used` is based on.
    revision: Revision,
    /// Its `status.used` and everything in `waiting`.
    used: ResourceList,
    waiting: Vec<Charge>,
    /// Whether a task writes for this account.
    writing: bool,
    /// Charges in the status whose objects are not stored yet, by number.
    unstored: BTreeMap<u64, ResourceList>,
    next: u64,
}

struct Charge {
    number: u64,
    delta: ResourceList,
    limited: bool,
    answer: oneshot::Sender<Result<(), Refusal>>,
}

impl Account {
    fn new(entry: &Entry) -> Self {
        let quota = entry.parsed(Quota::parse);
        Self {
            revision: entry.revision,
            used: quota.used.clone(),
            quota,
            waiting: Vec::new(),
            writing: false,
            unstored: BTreeMap::new(),
            next: 0,
        }
    }

    /// Starts over from what somebody else has written.
    fn rebase(&mut self, entry: &Entry) {
        self.quota = entry.parsed(Quota::parse);
        self.revision = entry.revision;
        self.used = self.quota.used.clone();
        for delta in self.unstored.values() {
            let tracked = lists::mask(delta, |name| self.used.contains_key(name));
            lists::add(&mut self.used, &tracked);
        }
        for charge in std::mem::take(&mut self.waiting) {
            match self.sum(&charge.delta, charge.limited) {
                Ok(used) => {
                    self.used = used;
                    self.waiting.push(charge);
                }
                Err(why) => {
                    let _ = charge.answer.send(Err(Refusal::Exceeded(why)));
                }
            }
        }
    }

    fn sum(&self, delta: &ResourceList, limited: bool) -> Result<ResourceList, String> {
        if limited {
            return self.quota.charge(&self.used, delta);
        }
        let mut sum = self.used.clone();
        lists::add(&mut sum, delta);
        Ok(sum)
    }
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object of a charge is stored, or never will be.
    fn settle(&self, key: &str, number: u64) {
        let mut accounts = self.lock();
        let Some(account) = accounts.get_mut(key) else { return };
        account.unstored.remove(&number);
        if account.unstored.is_empty() && account.waiting.is_empty() && !account.writing {
            accounts.remove(key);
        }
    }

    /// Takes `count` charges out of those that wait and tells them how it went.
    fn answer(&self, key: &str, count: usize, result: impl Fn() -> Result<(), Refusal>) {
        let mut accounts = self.lock();
        let Some(account) = accounts.get_mut(key) else { return };
        for charge in account.waiting.drain(..count) {
            let result = result();
            if result.is_ok() {
                account.unstored.insert(charge.number, charge.delta);
            }
            // Whoever does not listen any more will never store its object.
            if charge.answer.send(result).is_err() {
                account.unstored.remove(&charge.number);
            }
        }
    }
}

/// Charges all quotas or none, and returns once that is written.
pub(super) async fn charge(
    call: &Call,
    demands: Vec<Demand>,
    limited: bool,
    dry_run: bool,
) -> Result<Reservation, Refusal> {
    let mut reservation = Reservation::default();
    let mut answers = Vec::new();
    {
        let mut accounts = call.server.quotas.lock();
        for demand in &demands {
            let account = account(&mut accounts, call, demand);
            if let Some(Err(why)) = account.map(|account| account.sum(&demand.delta, limited)) {
                forget_idle(&mut accounts, &demands);
                return Err(Refusal::Exceeded(why));
            }
        }
        for demand in demands.iter().filter(|_| !dry_run) {
            let Some(account) = accounts.get_mut(&demand.key) else { continue };
            lists::add(&mut account.used, &demand.delta);
            let (answer, answered) = oneshot::channel();
            let number = account.next;
            account.next += 1;
            account.waiting.push(Charge { number, delta: demand.delta.clone(), limited, answer });
            answers.push(answered);
            let (server, key) = (call.server.clone(), demand.key.clone());
            reservation.when_done(move || server.quotas.settle(&key, number));
            if !std::mem::replace(&mut account.writing, true) {
                tokio::spawn(write_all(call.server.clone(), demand.key.clone()));
            }
        }
        forget_idle(&mut accounts, &demands);
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for answered in answers {
        let late = || ApiError::internal("resource quota evaluation timed out");
        let answer = tokio::time::timeout_at(deadline, answered).await;
        answer.map_err(|_| Refusal::Other(late()))?.map_err(|_| Refusal::Other(late()))??;
    }
    Ok(reservation)
}

/// The account of a quota, opened from the cache; none if the quota is gone.
fn account<'a>(
    accounts: &'a mut BTreeMap<Arc<str>, Account>,
    call: &Call,
    demand: &Demand,
) -> Option<&'a mut Account> {
    let kind = super::QUOTAS.kind(call)?;
    let entry = call.server.cached_key(&kind, &demand.key)?;
    let account = accounts.entry(demand.key.clone()).or_insert_with(|| Account::new(&entry));
    // While a write is under way, that finds out whether somebody else was faster.
    if !account.writing && account.revision != entry.revision {
        account.rebase(&entry);
    }
    Some(account)
}

fn forget_idle(accounts: &mut BTreeMap<Arc<str>, Account>, demands: &[Demand]) {
    for demand in demands {
        let idle = accounts.get(&demand.key).is_some_and(|account| {
            account.waiting.is_empty() && account.unstored.is_empty() && !account.writing
        });
        if idle {
            accounts.remove(&demand.key);
        }
    }
}

/// Writes a quota's status until nothing waits any more.
async fn write_all(server: Arc<Inner>, key: Arc<str>) {
    let ledger = server.quotas.clone();
    let Some(kind) = server.registry().resource("", "v1", "resourcequotas").cloned() else { return };
    let mut conflicts = 0;
    loop {
        let (revision, used, count) = {
            let mut accounts = ledger.lock();
            let Some(account) = accounts.get_mut(&key) else { return };
            if account.waiting.is_empty() {
                account.writing = false;
                if account.unstored.is_empty() {
                    accounts.remove(&key);
                }
                return;
            }
            (account.revision, account.used.clone(), account.waiting.len())
        };
        match write(&server, &kind, &key, revision, &used).await {
            Ok(written) => {
                conflicts = 0;
                if let Some(account) = ledger.lock().get_mut(&key) {
                    account.revision = written;
                }
                ledger.answer(&key, count, || Ok(()));
            }
            Err(PutError::Conflict) if conflicts < ATTEMPTS => {
                conflicts += 1;
                if let Err(error) = rebase(&server, &kind, &key).await {
                    ledger.answer(&key, count, || Err(Refusal::Other(error.clone())));
                }
            }
            Err(error) => {
                let error = match error {
                    PutError::Other(error) => error,
                    PutError::Conflict => {
                        let name = key.rsplit('/').next().unwrap_or_default();
                        ApiError::modified("", "resourcequotas", name)
                    }
                };
                ledger.answer(&key, count, || Err(Refusal::Other(error.clone())));
                // What was not written must not stay in the sum.
                if let Some(entry) = server.cached_key(&kind, &key)
                    && let Some(account) = ledger.lock().get_mut(&key)
                {
                    account.rebase(&entry);
                }
            }
        }
    }
}

async fn write(
    server: &Arc<Inner>,
    kind: &Kind,
    key: &Arc<str>,
    revision: Revision,
    used: &ResourceList,
) -> Result<Revision, PutError> {
    let entry = server.cached_key(kind, key).filter(|entry| entry.revision == revision);
    let old = entry.ok_or(PutError::Conflict)?.try_value().map_err(PutError::Other)?;
    let mut quota = old.clone();
    quota["status"]["used"] = lists::write(used);
    managed_fields::track_kind(kind, &old, &mut quota, MANAGER, "status").map_err(PutError::Other)?;
    let written = server.put(kind, key, Compare::ModRevision(revision), &quota).await?;
    Ok(written.revision)
}

/// Goes on from what somebody else has written; a quota that is gone charges nobody.
async fn rebase(server: &Arc<Inner>, kind: &Kind, key: &Arc<str>) -> Result<(), ApiError> {
    server.cache_of(kind).fresh().await.map_err(crate::storage::store_error)?;
    match server.cached_key(kind, key) {
        Some(entry) => {
            if let Some(account) = server.quotas.lock().get_mut(key) {
                account.rebase(&entry);
            }
        }
        None => {
            let waiting = server.quotas.lock().get(key).map_or(0, |account| account.waiting.len());
            server.quotas.answer(key, waiting, || Ok(()));
        }
    }
    Ok(())
}
