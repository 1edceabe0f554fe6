//! Work that is done ahead, beside one another, and handed on in order.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::sync::mpsc::Sender;

use rayon::Scope;

/// How many items a thread takes at a time: enough that asking for them is little beside the work, and few enough that
/// nobody waits long for those of another. Where it was measured, 4 and 16 made no difference.
const LOT: usize = 8;

/// Does `work` on all `items` on all cores, and hands what comes of each to `take`, in their order and on this thread,
/// while others go on ahead. So nobody waits for all of them, and a thread that starts late does less.
///
/// # Errors
/// The first that `take` gives; nothing is taken after it.
pub(super) fn in_order<I: Send, T: Send, E>(
    items: Vec<I>,
    work: &(impl Fn(I) -> T + Sync),
    mut take: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let lots = items.len().div_ceil(LOT);
    let helpers = (rayon::current_num_threads() - 1).min(lots.saturating_sub(1));
    if helpers == 0 {
        return items.into_iter().map(work).try_for_each(take);
    }
    let queue = Queue::new(items);
    rayon::in_place_scope(|scope| {
        let (to_taker, done) = mpsc::channel();
        (0..helpers).for_each(|_| help(scope, &queue, work, to_taker.clone()));
        let mut ready: BTreeMap<usize, Option<Vec<T>>> = BTreeMap::new();
        let mut next = 0;
        while next < lots {
            ready.extend(done.try_iter());
            match ready.remove(&next) {
                Some(Some(results)) => {
                    next += 1;
                    if let Err(error) = results.into_iter().try_for_each(&mut take) {
                        queue.clear();
                        return Err(error);
                    }
                }
                // Whoever was at work on it panicked, and the scope does so in its turn.
                Some(None) => {
                    queue.clear();
                    break;
                }
                None => match queue.next() {
                    Some((number, lot)) => {
                        ready.extend([(number, Some(lot.into_iter().map(work).collect()))])
                    }
                    // Somebody is at work on it.
                    None => ready.extend(done.recv()),
                },
            }
        }
        Ok(())
    })
}

/// Has another thread do lots until there are no more.
fn help<'scope, I: Send + 'scope, T: Send + 'scope>(
    scope: &Scope<'scope>,
    queue: &'scope Queue<I>,
    work: &'scope (impl Fn(I) -> T + Sync),
    to_taker: Sender<(usize, Option<Vec<T>>)>,
) {
    scope.spawn(move |_| {
        while let Some((number, lot)) = queue.next() {
            let mut promise = Promise { number, results: None, to_taker: &to_taker };
            promise.results = Some(lot.into_iter().map(work).collect());
        }
    });
}

/// What will come of a lot. It is handed on whatever happens, lest somebody wait for it for ever.
struct Promise<'a, T> {
    number: usize,
    /// Nothing if the work on it panicked.
    results: Option<Vec<T>>,
    to_taker: &'a Sender<(usize, Option<Vec<T>>)>,
}

impl<T> Drop for Promise<'_, T> {
    fn drop(&mut self) {
        // Nobody takes it after an error.
        let _ = self.to_taker.send((self.number, self.results.take()));
    }
}

/// Items by lots, each with its number.
struct Queue<I>(Mutex<(usize, std::vec::IntoIter<I>)>);

impl<I> Queue<I> {
    fn new(items: Vec<I>) -> Self {
        Self(Mutex::new((0, items.into_iter())))
    }

    fn next(&self) -> Option<(usize, Vec<I>)> {
        let (number, items) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lot: Vec<I> = items.by_ref().take(LOT).collect();
        *number += 1;
        (!lot.is_empty()).then_some((*number - 1, lot))
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = Vec::new().into_iter();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::panic::catch_unwind;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    /// Some work takes longer than the next.
    fn slowly(number: usize) -> usize {
        if number.is_multiple_of(37) {
            std::thread::sleep(Duration::from_millis(1));
        }
        number
    }

    #[test]
    fn what_comes_of_items_is_taken_in_their_order_whoever_is_faster() {
        for threads in [1, 2, 5] {
            for count in [0, 1, LOT, LOT + 1, 10 * LOT, 1_000] {
                let mut taken = Vec::new();
                let work = |number| slowly(number) * 3;
                let run = || {
                    in_order((0..count).collect(), &work, |result| {
                        taken.push(result);
                        Ok::<(), ()>(())
                    })
                };
                assert_eq!(pool(threads).install(run), Ok(()));
                let expected: Vec<usize> = (0..count).map(|number| number * 3).collect();
                assert_eq!(taken, expected, "{threads} threads");
            }
        }
    }

    #[test]
    fn after_an_error_nothing_is_taken_and_little_is_begun() {
        let begun = AtomicUsize::new(0);
        let work = |number| {
            begun.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_micros(50));
            number
        };
        let mut taken = 0;
        let run = || {
            in_order((0..100_000).collect(), &work, |number: usize| {
                taken += 1;
                if number == 20 { Err("enough") } else { Ok(()) }
            })
        };
        assert_eq!(pool(2).install(run), Err("enough"));
        assert_eq!(taken, 21);
        assert!(begun.into_inner() < 100_000);
    }

    #[test]
    fn work_that_panics_ends_in_a_panic_and_not_in_waiting() {
        for threads in [1, 2, 5] {
            for bad in [0, 30, 99] {
                let work = |number| if number == bad { panic!("on purpose") } else { slowly(number) };
                let run = || in_order((0..100).collect(), &work, |_| Ok::<(), ()>(()));
                let ended = catch_unwind(AssertUnwindSafe(|| pool(threads).install(run)));
                assert!(ended.is_err(), "{threads} threads, {bad}");
            }
        }
    }
}
