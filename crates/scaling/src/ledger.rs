//! The price ledger: what each node costs now, and all of them together.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::instance::{CapacityType, InstanceType, OfferingKey};

/// What is rented, by name of the claim or node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    entries: BTreeMap<Arc<str>, Entry>,
}

/// One rented machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What is rented.
    pub offering: OfferingKey,
    /// Its price in US dollars per hour.
    pub dollars_per_hour: f64,
}

impl Ledger {
    /// Enters a machine, or corrects its entry.
    pub fn enter(&mut self, name: impl Into<Arc<str>>, entry: Entry) {
        self.entries.insert(name.into(), entry);
    }

    /// The price of one machine.
    pub fn price(&self, name: &str) -> Option<f64> {
        self.entries.get(name).map(|entry| entry.dollars_per_hour)
    }

    /// The price of all machines together in US dollars per hour.
    pub fn total(&self) -> f64 {
        // Adding to positive zero keeps the sum of nothing from being printed as -0.
        self.entries.values().fold(0.0, |sum, entry| sum + entry.dollars_per_hour)
    }

    /// Number and price of the machines of each capacity type.
    pub fn by_capacity_type(&self) -> BTreeMap<CapacityType, (usize, f64)> {
        let mut sums = BTreeMap::new();
        for entry in self.entries.values() {
            let (count, price) = sums.entry(entry.offering.capacity_type).or_insert((0, 0.0));
            *count += 1;
            *price += entry.dollars_per_hour;
        }
        sums
    }
}

/// The present price of an offering.
pub fn price_of(catalogue: &[InstanceType], key: &OfferingKey) -> Option<f64> {
    let kind = catalogue.iter().find(|kind| kind.name == key.instance_type)?;
    kind.offerings
        .iter()
        .find(|offering| offering.zone == key.zone && offering.capacity_type == key.capacity_type)
        .map(|offering| offering.dollars_per_hour)
}
