//! Many writes of one kind at a time, starting slowly.

use std::future::Future;

use futures::StreamExt;

/// How many writes one reconciliation has under way at a time.
const CONCURRENCY: usize = 64;

/// Runs `write` for every item: first one, then two, four, … at a time, so that writes that all
/// fail for one reason (a quota, a denied image) cost a few requests and not thousands; once a
/// full batch has succeeded, as many as [`CONCURRENCY`] at any time. Stops at the first batch with
/// a failure. Returns how many were tried and the first error.
pub async fn slow_start<T, E, F, Fut>(items: Vec<T>, write: F) -> (usize, Result<(), E>)
where
    F: Fn(T) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let mut items = items.into_iter();
    let (mut tried, mut size) = (0, 1);
    while size < CONCURRENCY {
        let batch: Vec<T> = items.by_ref().take(size).collect();
        if batch.is_empty() {
            return (tried, Ok(()));
        }
        tried += batch.len();
        let results = futures::future::join_all(batch.into_iter().map(&write)).await;
        if let Some(error) = results.into_iter().find_map(Result::err) {
            return (tried, Err(error));
        }
        size *= 2;
    }
    let mut first_error = None;
    // Writes under way when one fails are left to finish, so that every answer is accounted for.
    let mut running = futures::stream::FuturesUnordered::new();
    loop {
        while running.len() < CONCURRENCY && first_error.is_none() {
            let Some(item) = items.next() else { break };
            tried += 1;
            running.push(write(item));
        }
        match running.next().await {
            None => break,
            Some(Ok(())) => {}
            Some(Err(error)) => first_error = first_error.or(Some(error)),
        }
    }
    (tried, first_error.map_or(Ok(()), Err))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failures_stop_early() {
        let (tried, result) = slow_start((0..1000).collect(), |_| async { Err::<(), _>("quota") }).await;
        assert_eq!((tried, result), (1, Err("quota")));
        let fail_at = |limit| move |i: i32| async move { if i >= limit { Err("quota") } else { Ok(()) } };
        assert_eq!(slow_start((0..1000).collect(), fail_at(5)).await, (7, Err("quota")));
        assert_eq!(slow_start((0..1000).collect(), fail_at(1000)).await, (1000, Ok(())));
    }
}
