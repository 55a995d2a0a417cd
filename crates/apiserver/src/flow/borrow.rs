//! How levels lend each other seats: upstream's `computeConcurrencyAllocation`.

/// What one level can do with, and wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub lower: f64,
    pub upper: f64,
    pub target: f64,
}

/// Shares `sum` out so that everybody gets the same part of its target, within its bounds. `None` when the
/// bounds do not allow that sum.
pub(super) fn share(sum: f64, wishes: &[Wish]) -> Option<Vec<f64>> {
    const TARGET_MIN: f64 = 0.001;
    let at = |part: f64| {
        wishes.iter().map(move |wish| (part * wish.target.max(TARGET_MIN)).clamp(wish.lower, wish.upper))
    };
    let lowest: f64 = wishes.iter().map(|wish| wish.lower).sum();
    let highest: f64 = wishes.iter().map(|wish| wish.upper).sum();
    if sum < lowest || sum > highest || wishes.iter().any(|wish| wish.lower > wish.upper) {
        return None;
    }
    // The sum grows with the part, so halving finds it.
    let (mut low, mut high) = (0.0, highest / TARGET_MIN);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if at(middle).sum::<f64>() < sum { low = middle } else { high = middle }
    }
    Some(at(high).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_idle_lend_to_the_busy() {
        let wish = |lower, upper, target| Wish { lower, upper, target };
        let shares = share(100.0, &[wish(20.0, 200.0, 20.0), wish(10.0, 200.0, 300.0)]).unwrap();
        assert_eq!(shares.iter().map(|share| share.round()).collect::<Vec<_>>(), [20.0, 80.0]);
        assert!(share(10.0, &[wish(20.0, 30.0, 20.0)]).is_none());
        assert!(share(40.0, &[wish(20.0, 30.0, 20.0)]).is_none());
    }
}
