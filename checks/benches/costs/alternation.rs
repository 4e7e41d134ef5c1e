//! Measures in alternation: what the machine does beside it hits all alike.

use crate::Result;
use crate::ratios::Series;

/// Measures each of `things` once in every round; one value per round for each. The first round
/// warms up and is not counted.
///
/// Forth and back, from another one each time: nobody always comes first, or after the same
/// neighbour.
pub fn measure<T>(
    rounds: usize,
    things: &mut [T],
    mut measure: impl FnMut(&mut T) -> Result<f64>,
) -> Result<Vec<Series>> {
    let count = things.len();
    let mut all = vec![Series::default(); count];
    for round in 0..=rounds {
        for turn in 0..count {
            let turn = if round % 2 == 0 { turn } else { count - 1 - turn };
            let place = (turn + round / 2) % count;
            let value = measure(&mut things[place])?;
            if round > 0 {
                all[place].0.push(value);
            }
        }
    }
    Ok(all)
}
