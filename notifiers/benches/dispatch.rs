//! What a round costs, against a plain loop over as many boxed closures.
//!
//! Prints ratios: both sides are measured in turn, many times, in the same run, and the medians
//! are compared. `cargo bench -p notifiers`

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a benchmark that fails may panic, and its numbers are small"
)]

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use notifiers::{NotifierList, NotifierWithReturnList, PriorityList};

/// One side of the race: performs one round.
type Side = Box<dyn FnMut(&u64)>;
type Boxed = Box<dyn Fn(&u64)>;
type BoxedFallible = Box<dyn Fn(&u64) -> Result<(), ()>>;

const SIZES: [usize; 4] = [1, 10, 1_000, 100_000];
/// Calls in one sample of one side: long enough for the clock, short enough to be undisturbed.
const CALLS_PER_SAMPLE: usize = 400_000;
const SAMPLES: usize = 41;

/// What each callback does: as little as a callback can do and be seen to have done.
fn callback(sum: &Rc<Cell<u64>>, own: usize) -> impl Fn(&u64) + 'static {
    let sum = Rc::clone(sum);
    let own = own as u64;
    move |event| sum.set(sum.get().wrapping_add(*event ^ own))
}

/// The same, for a list that can be stopped.
fn fallible(sum: &Rc<Cell<u64>>, own: usize) -> impl Fn(&u64) -> Result<(), ()> + 'static {
    let callback = callback(sum, own);
    move |event| {
        callback(event);
        Ok(())
    }
}

fn sample(rounds: usize, mut round: impl FnMut(&u64)) -> Duration {
    let start = Instant::now();
    for event in 0..rounds as u64 {
        round(black_box(&event));
    }
    start.elapsed()
}

fn median(samples: &mut [Duration]) -> f64 {
    samples.sort_unstable();
    samples[samples.len() / 2].as_secs_f64()
}

/// Measures the sides in turn and returns the median of each.
fn race(rounds: usize, sides: &mut [Side]) -> Vec<f64> {
    let mut samples = vec![Vec::with_capacity(SAMPLES); sides.len()];
    for _ in 0..SAMPLES {
        for (side, samples) in sides.iter_mut().zip(&mut samples) {
            samples.push(sample(rounds, side));
        }
    }
    samples.iter_mut().map(|samples| median(samples)).collect()
}

fn main() {
    println!("A round against a plain loop over boxed closures of the same kind (medians):\n");
    println!(
        "{:>8}  {:>14}  {:>12}  {:>12}  {:>13}  {:>22}",
        "entries",
        "plain, ns/call",
        "NotifierList",
        "Priority, up",
        "Priority, down",
        "NotifierWithReturnList"
    );
    for size in SIZES {
        let sum = Rc::new(Cell::new(0));
        let plain: Vec<Boxed> = (0..size)
            .map(|own| Box::new(callback(&sum, own)) as Boxed)
            .collect();
        let plain_fallible: Vec<BoxedFallible> = (0..size)
            .map(|own| Box::new(fallible(&sum, own)) as BoxedFallible)
            .collect();
        // One after the other, so that each side has its memory to itself.
        let list = NotifierList::new();
        (0..size).for_each(|own| list.add(callback(&sum, own)).detach());
        let with_return = NotifierWithReturnList::new();
        (0..size).for_each(|own| with_return.add("", fallible(&sum, own)).detach());
        let up = Rc::new(PriorityList::new());
        (0..size).for_each(|own| up.add((own / 256) as i32, callback(&sum, own)).detach());
        let down = Rc::clone(&up);

        let rounds = (CALLS_PER_SAMPLE / size).max(4);
        let medians = race(
            rounds,
            &mut [
                Box::new(move |event| plain.iter().for_each(|callback| callback(event))),
                Box::new(move |event| list.notify(event).unwrap()),
                Box::new(move |event| up.run_up(event).unwrap()),
                Box::new(move |event| down.run_down(event).unwrap()),
                Box::new(move |event| {
                    plain_fallible
                        .iter()
                        .try_for_each(|callback| callback(event))
                        .unwrap();
                }),
                Box::new(move |event| with_return.notify(event).unwrap()),
            ],
        );
        black_box(sum.get());

        let [plain, list, up, down, plain_fallible, with_return] = medians[..] else {
            return;
        };
        println!(
            "{size:>8}  {:>14.2}  {:>11.2}x  {:>11.2}x  {:>13.2}x  {:>21.2}x",
            plain * 1e9 / (rounds * size) as f64,
            list / plain,
            up / plain,
            down / plain,
            with_return / plain_fallible,
        );
    }
}
