//! The occupancy of generations as a picture: a panel for each moment of the run, a row for each
//! generation, a cell for each method.

use std::fmt::Write;

use crate::occupancy::{Moment, Row};
use crate::table::thousands;

const WIDTH: f64 = 300.0;
/// For a mark at rows that are open.
const MARGIN: f64 = 9.0;
const TALLEST: f64 = 240.0;
const TALLEST_ROW: f64 = 9.0;

/// The same in all panels, so that they can be compared.
struct Scale {
    /// A method's width.
    method: f64,
    /// A row's height, with the gap below.
    row: f64,
}

impl Scale {
    fn of(moments: &[Moment]) -> Self {
        let rows = moments.iter().map(|m| m.rows.len()).max().unwrap_or(0);
        let all = moments.iter().flat_map(|m| &m.rows);
        let methods = all.map(Row::methods).max().unwrap_or(0);
        Self {
            method: (WIDTH - MARGIN) / methods.max(1) as f64,
            row: (TALLEST / rows.max(1) as f64).min(TALLEST_ROW),
        }
    }
}

/// The whole figure; nothing where no strategy has generations.
pub fn figure(page: &mut String, moments: &[Moment]) {
    let methods = moments.iter().flat_map(|m| &m.rows).map(Row::methods);
    let Some(longest) = methods.max() else {
        return;
    };
    let longest = thousands(longest);
    write!(
        page,
        "<figure class=\"wide\"><h2>Who lives in which generation</h2>\n<figcaption>Each panel is \
         a moment of the run, after so many compilations; each row a generation that is not dead, the \
         oldest on top; each cell a method, in the order in which they were compiled or moved there. \
         A row's memory comes back when its last cell is dead, so a pale row with a few cells of \
         colour is memory that a few survivors hold. The share that is alive is of the bytes mapped \
         for all rows. The longest row has {longest} methods. \u{25b8} marks generations that are still \
         being filled.</figcaption>\n",
    )
    .ok();
    page.push_str("<ul class=\"legend\">\n");
    for (class, name, says) in [
        ("hot", "hot", "calls go to it"),
        ("cold", "on probation", "goes next unless it is called"),
        (
            "dead",
            "dead",
            "evicted, invalidated, or moved; only its bytes are there",
        ),
    ] {
        writeln!(
            page,
            "<li><svg class=\"swatch\" viewBox=\"0 0 20 12\" aria-hidden=\"true\"><path \
             class=\"{class}\" stroke-width=\"12\" d=\"M0 6h20\"/></svg><span><strong>{name}</strong> \
             <span class=\"soft\">{says}</span></span></li>"
        )
        .ok();
    }
    page.push_str("</ul>\n<div class=\"panels\">\n");
    let scale = Scale::of(moments);
    for moment in moments {
        panel(page, &scale, moment);
    }
    page.push_str("</div></figure>\n");
}

fn panel(page: &mut String, scale: &Scale, moment: &Moment) {
    let sum = |of: fn(&Row) -> u64| moment.rows.iter().map(of).sum::<u64>();
    let (code, live) = (sum(|r| r.code_bytes), sum(|r| r.live_bytes));
    let percent = (live * 100).checked_div(code).unwrap_or(0).min(100);
    let at = thousands(moment.compiles);
    let count = thousands(moment.rows.len() as u64 + moment.left_out);
    let more = match moment.left_out {
        0 => String::new(),
        n => format!(", {} of them not shown", thousands(n)),
    };
    let height = scale.row * moment.rows.len() as f64;
    let (method, row) = (scale.method, scale.row);
    writeln!(
        page,
        "<div class=\"panel\"><p><strong>{at}</strong> <span class=\"soft\">{count} \
         generations{more}, {percent}\u{a0}% alive</span></p>\n\
         <svg viewBox=\"0 0 {WIDTH} {height:.1}\" role=\"img\" aria-label=\"Generations after {at} \
         compilations\"><g transform=\"translate({MARGIN} 0) scale({method:.4} {row:.4})\" \
         stroke-width=\"{:.2}\">",
        if row < 2.5 { 1.0 } else { 0.8 }
    )
    .ok();
    let mut background = String::new();
    let mut paths = [("hot", 'h', String::new()), ("cold", 'c', String::new())];
    let mut marks = String::new();
    for (y, row) in moment.rows.iter().enumerate() {
        write!(background, "M0 {y}.5h{}", row.methods()).ok();
        for (_, kind, path) in &mut paths {
            runs(path, y, row, *kind);
        }
        if row.open {
            let middle = (y as f64 + 0.5) * scale.row;
            let half = (scale.row * 0.4).clamp(1.5, 3.0);
            write!(marks, "M1 {:.1}l5 {half:.1}l-5 {half:.1}z", middle - half).ok();
        }
    }
    writeln!(page, "<path class=\"dead\" d=\"{background}\"/>").ok();
    for (class, _, path) in &paths {
        writeln!(page, "<path class=\"{class}\" d=\"{path}\"/>").ok();
    }
    writeln!(page, "</g><path class=\"open\" d=\"{marks}\"/></svg></div>").ok();
}

/// Lines along a row, each from where the last one ended.
fn runs(path: &mut String, y: usize, row: &Row, kind: char) {
    let cells = row.runs().map(|(_, _, length)| length).sum::<u64>();
    let place = |cell: u64| cell * row.methods() / cells.max(1);
    let mut end = None;
    for (_, from, length) in row.runs().filter(|(k, _, _)| *k == kind) {
        let (from, to) = (place(from), place(from + length));
        match end {
            None => write!(path, "M{from} {y}.5h{}", to - from),
            Some(end) => write!(path, "m{} 0h{}", from - end, to - from),
        }
        .ok();
        end = Some(to);
    }
}
