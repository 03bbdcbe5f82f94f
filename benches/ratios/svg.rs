//! Lines in a picture, as SVG that needs nothing else.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 52.0;

/// Told apart in grey too: each has another lightness. The first is ours.
const COLOURS: [&str; 5] = ["#c0392b", "#1f4e79", "#2e86ab", "#6b6b6b", "#a8a8a8"];

pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A picture of lines; from 0 upwards, and sideways by values or by powers of two.
pub struct Picture {
    pub title: &'static str,
    pub x: &'static str,
    pub y: &'static str,
    pub by_powers: bool,
    pub lines: Vec<Line>,
}

/// 1, 2 or 5, and a power of ten: at least this much.
fn round(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|n| n * power);
    steps.into_iter().find(|s| *s >= least).unwrap_or(least)
}

fn thousands(n: f64) -> String {
    let text = format!("{n:.0}");
    let split = text.len().checked_sub(3).filter(|_| n >= 10_000.0);
    split.map_or(text.clone(), |at| {
        format!("{},{}", &text[..at], &text[at..])
    })
}

impl Picture {
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let most = |pick: fn(&(f64, f64)) -> f64| points().map(pick).fold(0.0, f64::max);
        let (step_x, step_y) = (round(most(|p| p.0) / 6.0), round(most(|p| p.1) / 6.0));
        let scale = |x: f64| if self.by_powers { x.log2() } else { x };
        let end_x = scale(most(|p| p.0));
        let end_y = (most(|p| p.1) / step_y).ceil() * step_y;
        let at_x = |x: f64| LEFT + (WIDTH - LEFT - RIGHT) * scale(x) / end_x;
        let at_y = |y: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / end_y;
        let ticks_x: Vec<f64> = match self.by_powers {
            true => (0..=end_x.round() as i32).map(|n| 2f64.powi(n)).collect(),
            false => (0..=(end_x / step_x) as i32)
                .map(|n| f64::from(n) * step_x)
                .collect(),
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{}</text>\n",
            self.title
        );
        let mut put = |text: String| svg.push_str(&text);
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for n in 0..=(end_y / step_y).round() as i32 {
            let value = f64::from(n) * step_y;
            let y = at_y(value);
            let label = if step_y < 1.0 {
                format!("{value:.1}")
            } else {
                thousands(value)
            };
            put(format!(
                "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#dddddd\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\n",
                LEFT - 8.0,
                y + 4.0
            ));
        }
        for value in ticks_x {
            put(format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                at_x(value),
                bottom + 18.0,
                thousands(value)
            ));
        }
        put(format!(
            "<path d=\"M{LEFT} {bottom}H{right}\" stroke=\"#333333\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
            (LEFT + right) / 2.0,
            bottom + 40.0,
            self.x,
            (TOP + bottom) / 2.0,
            self.y
        ));
        // Names stand where their lines end, and not one on the other.
        let mut ends: Vec<_> = self.lines.iter().zip(COLOURS).collect();
        let end = |line: &Line| line.points.last().map_or((0.0, 0.0), |p| *p);
        ends.sort_by(|a, b| end(b.0).1.total_cmp(&end(a.0).1));
        let mut above = TOP - 15.0;
        for (line, colour) in ends {
            let mut path = String::new();
            for (i, (x, y)) in line.points.iter().enumerate() {
                let (step, x, y) = (if i == 0 { 'M' } else { 'L' }, at_x(*x), at_y(*y));
                write!(path, "{step}{x:.1} {y:.1}").expect("a string takes it");
            }
            let (x, y) = end(line);
            above = (at_y(y) + 4.0).max(above + 15.0);
            put(format!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
                 <text x=\"{:.1}\" y=\"{above:.1}\" fill=\"{colour}\">{}</text>\n",
                at_x(x) + 8.0,
                line.name
            ));
        }
        svg.push_str("</svg>\n");
        svg
    }
}
