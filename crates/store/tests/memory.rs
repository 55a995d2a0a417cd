//! The suite on the in-memory model, with the clock paused: it needs no timer, task or thread.

use store::{Memory, suite};

#[tokio::test(start_paused = true)]
async fn memory_passes_the_suite() {
    suite::run(|limits| async move { Memory::with_limits(limits) }).await;
}

proptest::proptest! {
    #[test]
    fn memory_agrees_with_a_map(seed: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(suite::agrees_with_a_map(&Memory::new(), seed, 300));
    }
}
