//! The catalogue: a plain data file of instance types with their prices.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cloud::{CapacityType, InstanceType, MachineResources, Offering};

use crate::machines::REGION;

/// The file that comes with Kobune.
const BUILT_IN: &str = include_str!("../catalogue.csv");
/// Zones of types whose row names none.
const ZONES: &str = "a b c";
/// Typical spot price as a share of the on-demand price, for files without spot prices.
const SPOT_SHARE: f64 = 0.41;
/// Default of Kubernetes for types whose row does not limit pods.
const PODS_MAX: i64 = 110;
/// Disk of every machine in bytes; simulated nodes have as much.
const EPHEMERAL_BYTES: i64 = 100 << 30;

/// Instance types with offerings.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalogue {
    /// The types, in the order of the file.
    pub types: Vec<InstanceType>,
}

/// Why a catalogue could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file cannot be opened.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A column that must be there is missing.
    #[error("the header has no column {0:?}")]
    MissingColumn(&'static str),
    /// A field is not what its column says.
    #[error("line {line}: {column} is {value:?}, which is not {expected}")]
    BadField {
        /// Counted from one.
        line: usize,
        /// Name of the column.
        column: &'static str,
        /// What is there.
        value: String,
        /// What should be there.
        expected: &'static str,
    },
    /// There is not a single type in the file.
    #[error("no instance types in it")]
    Empty,
}

impl Catalogue {
    /// The catalogue that comes with Kobune: general, compute and memory types of us-east-1.
    ///
    /// `reserved` is the share of CPU and memory that each machine keeps for its system.
    pub fn built_in(reserved: f64) -> Self {
        Self::parse(BUILT_IN, reserved).expect("a test reads the built-in catalogue")
    }

    /// Reads a file in the form of the built-in one (see its head).
    pub fn read(path: &Path, reserved: f64) -> Result<Self, CatalogueError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| CatalogueError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, reserved)
    }

    /// Parses the text of a catalogue. Columns are found by name, in any order; lines that begin
    /// with `#` and rows without a price are passed over.
    pub fn parse(text: &str, reserved: f64) -> Result<Self, CatalogueError> {
        let mut lines = (1..)
            .zip(text.lines())
            .map(|(number, line)| (number, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let header: Vec<&str> =
            lines.next().map(|(_, line)| line.split(',').map(str::trim).collect()).unwrap_or_default();
        let columns = Columns::find(&header)?;
        let types: Vec<InstanceType> = lines
            .map(|(line, row)| {
                let fields: Vec<&str> = row.split(',').map(str::trim).collect();
                columns.instance_type(&Row { line, fields: &fields }, reserved)
            })
            .filter_map(Result::transpose)
            .collect::<Result<_, _>>()?;
        if types.is_empty() { Err(CatalogueError::Empty) } else { Ok(Self { types }) }
    }
}

/// Where each column is.
struct Columns {
    name: usize,
    vcpu: usize,
    memory_mib: usize,
    arch: usize,
    on_demand: usize,
    spot: Option<usize>,
    max_pods: Option<usize>,
    zones: Option<usize>,
    gpus: Option<usize>,
}

impl Columns {
    fn find(header: &[&str]) -> Result<Self, CatalogueError> {
        let at = |names: &[&str]| header.iter().position(|known| names.contains(known));
        let must = |name: &'static str| at(&[name]).ok_or(CatalogueError::MissingColumn(name));
        Ok(Self {
            name: must("instance_type")?,
            vcpu: must("vcpu")?,
            memory_mib: must("memory_mib")?,
            arch: must("arch")?,
            on_demand: must("on_demand_usd_per_hour")?,
            spot: at(&["spot_usd_per_hour"]),
            max_pods: at(&["max_pods", "max_pods_eni"]),
            zones: at(&["zones"]),
            gpus: at(&["gpus"]),
        })
    }

    fn instance_type(&self, row: &Row<'_>, reserved: f64) -> Result<Option<InstanceType>, CatalogueError> {
        if row.field(self.on_demand).is_empty() {
            return Ok(None);
        }
        let name: Arc<str> = row.field(self.name).into();
        let on_demand: f64 = row.number(self.on_demand, "on_demand_usd_per_hour")?;
        let spot = match self.spot.filter(|at| !row.field(*at).is_empty()) {
            Some(at) => row.number(at, "spot_usd_per_hour")?,
            None => on_demand * SPOT_SHARE,
        };
        let pods = match self.max_pods.filter(|at| !row.field(*at).is_empty()) {
            Some(at) => row.number::<i64>(at, "max_pods")?,
            None => PODS_MAX,
        };
        let gpus = match self.gpus.filter(|at| !row.field(*at).is_empty()) {
            Some(at) => row.number::<i64>(at, "gpus")?,
            None => 0,
        };
        let mut extended = BTreeMap::new();
        if gpus > 0 {
            extended.insert("nvidia.com/gpu".to_owned(), gpus);
        }
        let capacity = MachineResources {
            cpu_milli: (row.number::<f64>(self.vcpu, "vcpu")? * 1000.0) as i64,
            memory_bytes: row.number::<i64>(self.memory_mib, "memory_mib")? << 20,
            ephemeral_bytes: EPHEMERAL_BYTES,
            pods,
            extended,
        };
        // The same arithmetic as simulated nodes use, so that predictions come true to the byte.
        let keep = 1.0 - reserved;
        let allocatable = MachineResources {
            cpu_milli: (capacity.cpu_milli as f64 * keep) as i64,
            memory_bytes: (capacity.memory_bytes as f64 * keep) as i64,
            ..capacity.clone()
        };
        let zones = self.zones.map(|at| row.field(at)).filter(|zones| !zones.is_empty()).unwrap_or(ZONES);
        Ok(Some(InstanceType {
            labels: labels(&name, &capacity),
            arch: row.field(self.arch).into(),
            offerings: offerings(zones, spot, on_demand),
            capacity,
            allocatable,
            name,
        }))
    }
}

fn offerings(zones: &str, spot: f64, on_demand: f64) -> Vec<Offering> {
    zones
        .split_whitespace()
        .flat_map(|zone| {
            // A whole zone name is taken as it is; a letter belongs to the region of the built-in file.
            let zone: Arc<str> = if zone.len() > 1 { zone.into() } else { format!("{REGION}{zone}").into() };
            [(CapacityType::Spot, spot), (CapacityType::OnDemand, on_demand)].map(|(capacity_type, price)| {
                Offering { zone: zone.clone(), capacity_type, dollars_per_hour: price, available: true }
            })
        })
        .collect()
}

/// The labels by which Karpenter's AWS provider describes a type: family, size, category, generation.
fn labels(name: &str, capacity: &MachineResources) -> BTreeMap<String, String> {
    let (family, size) = name.split_once('.').unwrap_or((name, ""));
    let category: String = family.chars().take_while(char::is_ascii_alphabetic).collect();
    let generation: String = family.chars().skip(category.len()).take_while(char::is_ascii_digit).collect();
    [
        ("instance-family", family.to_owned()),
        ("instance-size", size.to_owned()),
        ("instance-category", category),
        ("instance-generation", generation),
        ("instance-cpu", (capacity.cpu_milli / 1000).to_string()),
        ("instance-memory", (capacity.memory_bytes >> 20).to_string()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(key, value)| (format!("karpenter.k8s.aws/{key}"), value))
    .collect()
}

struct Row<'a> {
    line: usize,
    fields: &'a [&'a str],
}

impl Row<'_> {
    fn field(&self, at: usize) -> &str {
        self.fields.get(at).copied().unwrap_or_default()
    }

    fn number<T: std::str::FromStr + PartialOrd + Default>(
        &self,
        at: usize,
        column: &'static str,
    ) -> Result<T, CatalogueError> {
        let value = self.field(at);
        value.parse().ok().filter(|number| *number >= T::default()).ok_or_else(|| CatalogueError::BadField {
            line: self.line,
            column,
            value: value.to_owned(),
            expected: "a number of zero or more",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_covers_what_people_run() {
        let types = Catalogue::built_in(0.05).types;
        assert!(types.len() >= 60);
        for arch in ["amd64", "arm64"] {
            for category in ["m", "c", "r", "t"] {
                let found = types.iter().any(|kind| {
                    *kind.arch == *arch && kind.labels["karpenter.k8s.aws/instance-category"] == category
                });
                assert!(found, "{category} on {arch}");
            }
        }
        for kind in &types {
            let price = |wanted| {
                let of = |offering: &&Offering| offering.capacity_type == wanted;
                kind.offerings.iter().find(of).expect("offered both ways").dollars_per_hour
            };
            assert!(price(CapacityType::Spot) < 0.6 * price(CapacityType::OnDemand), "{}", kind.name);
        }
    }

    #[test]
    fn columns_are_found_by_name() {
        let text = "memory_mib,vcpu,instance_type,on_demand_usd_per_hour,arch\n# note\n4096,2,x.big,0.1,amd64\n1,1,x.unpriced,,amd64\n";
        let types = Catalogue::parse(text, 0.5).expect("it is well formed").types;
        assert_eq!(types.len(), 1);
        let kind = &types[0];
        assert_eq!((&*kind.name, kind.capacity.cpu_milli, kind.allocatable.cpu_milli), ("x.big", 2000, 1000));
        assert_eq!(kind.offerings.len(), 6);
    }

    #[test]
    fn mistakes_are_located() {
        let bad = Catalogue::parse(
            "instance_type,vcpu,memory_mib,arch,on_demand_usd_per_hour\na,two,1,amd64,1\n",
            0.0,
        );
        assert_eq!(
            bad.expect_err("two is no number").to_string(),
            "line 2: vcpu is \"two\", which is not a number of zero or more"
        );
        assert!(matches!(
            Catalogue::parse("vcpu\n", 0.0),
            Err(CatalogueError::MissingColumn("instance_type"))
        ));
    }
}
