//! Who lives in which generation, at a few moments of a run: kept so small that it does not disturb
//! what is measured.

use inkpot::{MethodIs, Occupancy};
use serde::{Deserialize, Serialize};

/// Moments in a run, the last at its end.
pub const MOMENTS: u64 = 24;
/// Cells that are kept of a moment, in all its rows.
const CELLS: usize = 20_000;
/// Generations that are kept of a moment.
const ROWS: usize = 400;
/// Cells in a row at least, even if not all then fit.
const NARROWEST: usize = 48;

/// The generations at one moment.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Moment {
    pub compiles: u64,
    pub rows: Vec<Row>,
    /// The youngest generations, where there are more than a picture has room for.
    pub left_out: u64,
}

/// A generation and its methods.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Row {
    pub generation: u64,
    pub open: bool,
    pub code_bytes: u64,
    pub live_bytes: u64,
    pub hot: u64,
    pub cold: u64,
    pub dead: u64,
    /// A cell for each method, or for so many together that they fit: `h` is hot, `c` cold, `d` dead,
    /// each run of them with its length behind it.
    pub cells: String,
}

impl Row {
    pub fn methods(&self) -> u64 {
        self.hot + self.cold + self.dead
    }

    /// The runs of like cells, with where they begin and how long they are.
    pub fn runs(&self) -> impl Iterator<Item = (char, u64, u64)> {
        let mut at = 0;
        let mut rest = self.cells.as_str();
        std::iter::from_fn(move || {
            let kind = rest.chars().next()?;
            let behind = &rest[kind.len_utf8()..];
            let end = behind.find(|c: char| !c.is_ascii_digit());
            let (length, next) = behind.split_at(end.unwrap_or(behind.len()));
            let length = length.parse().unwrap_or(1);
            rest = next;
            at += length;
            Some((kind, at - length, length))
        })
    }
}

/// Moments as they are taken: in memory that was there before the run.
pub struct Moments {
    /// How far the run was, and where its rows end.
    taken: Vec<(u64, usize, u64)>,
    /// A row without its cells, and where these end.
    rows: Vec<(Row, usize)>,
    cells: Vec<u8>,
}

impl Moments {
    pub fn new() -> Self {
        let moments = MOMENTS as usize + 1;
        Self {
            taken: touched(moments, (1, 1, 1)),
            rows: touched(moments * 64, (Row::default(), 1)),
            cells: touched(moments * CELLS, b'.'),
        }
    }

    pub fn take(&mut self, compiles: u64, generations: &[Occupancy]) {
        let shown = &generations[..generations.len().min(ROWS)];
        let width = columns(shown.iter().map(|g| g.methods.len()));
        for generation in shown {
            let methods = &generation.methods;
            let count = |kind| methods.iter().filter(|m| **m == kind).count() as u64;
            self.cells.extend(cells(methods, width));
            let row = Row {
                generation: generation.generation,
                open: generation.open,
                code_bytes: generation.code_bytes,
                live_bytes: generation.live_bytes,
                hot: count(MethodIs::Hot),
                cold: count(MethodIs::Cold),
                dead: count(MethodIs::Dead),
                cells: String::new(),
            };
            self.rows.push((row, self.cells.len()));
        }
        let left_out = (generations.len() - shown.len()) as u64;
        self.taken.push((compiles, self.rows.len(), left_out));
    }

    pub fn finish(self) -> Vec<Moment> {
        let mut from = 0;
        let mut rows = self.rows.into_iter().map(|(row, to)| {
            let cells = run_lengths(&self.cells[from..to]);
            from = to;
            Row { cells, ..row }
        });
        let mut before = 0;
        let moment = |(compiles, end, left_out)| {
            let rows = rows.by_ref().take(end - before).collect();
            before = end;
            Moment {
                compiles,
                rows,
                left_out,
            }
        };
        self.taken.into_iter().map(moment).collect()
    }
}

/// Room for so many, used once now: it must not become resident while memory is measured.
fn touched<T: Clone>(most: usize, something: T) -> Vec<T> {
    let mut list = vec![something; most];
    list.clear();
    list
}

/// The most methods that a row may show as a cell each, such that all rows fit together.
fn columns(rows: impl Iterator<Item = usize> + Clone) -> usize {
    let longest = rows.clone().max().unwrap_or(0);
    let fits = |width: &usize| rows.clone().map(|n| n.min(*width)).sum::<usize>() <= CELLS;
    let mut width = longest;
    while width > NARROWEST && !fits(&width) {
        width = width * 7 / 8;
    }
    width
}

/// A cell for each method, or, if there are more than `width`, one for several. Then each kind has
/// as large a share of the cells as it has of the methods, near where these are.
pub fn cells(methods: &[MethodIs], width: usize) -> impl Iterator<Item = u8> {
    const LETTERS: [u8; 3] = *b"hcd";
    let columns = methods.len().min(width);
    // What each kind is still owed, in methods times columns.
    let mut owed = [0_i64; 3];
    (0..columns).map(move |column| {
        let at = |column: usize| column * methods.len() / columns;
        for method in &methods[at(column)..at(column + 1)] {
            let kind = match method {
                MethodIs::Hot => 0,
                MethodIs::Cold => 1,
                MethodIs::Dead => 2,
            };
            owed[kind] += columns as i64;
        }
        let most = (0..3).max_by_key(|kind| (owed[*kind], 3 - kind));
        let kind = most.unwrap_or(2);
        owed[kind] -= methods.len() as i64;
        LETTERS[kind]
    })
}

fn run_lengths(cells: &[u8]) -> String {
    let mut text = String::new();
    for run in cells.chunk_by(|a, b| a == b) {
        text.push(char::from(run[0]));
        text.push_str(&run.len().to_string());
    }
    text
}
