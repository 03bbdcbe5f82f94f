//! A line plot as SVG, with axes that say what they measure.

use std::fmt::Write;

use crate::table::thousands;

const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 52.0;

pub struct Series {
    pub name: String,
    /// The style sheet gives each class its colour and dashes.
    pub class: String,
    pub points: Vec<(f64, f64)>,
}

pub struct Plot {
    pub title: &'static str,
    pub x_label: &'static str,
    pub y_label: &'static str,
    pub logarithmic: bool,
    pub series: Vec<Series>,
}

/// The values of an axis, and where they are in the picture.
struct Axis {
    end: f64,
    ticks: Vec<f64>,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Axis {
    /// From 0 to a round number at or above `most`.
    fn linear(most: f64, from: f64, to: f64) -> Self {
        let step = round_step(most / 5.0);
        let count = (most / step).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|n| f64::from(n) * step).collect();
        Self {
            end: count * step,
            ticks,
            from,
            to,
            logarithmic: false,
        }
    }

    /// From 1 to a power of ten at or above `most`.
    fn logarithmic(most: f64, from: f64, to: f64) -> Self {
        let powers = most.max(10.0).log10().ceil();
        let ticks = (0..=powers as i32).map(|power| 10f64.powi(power)).collect();
        Self {
            end: powers,
            ticks,
            from,
            to,
            logarithmic: true,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic {
            value.max(1.0).log10()
        } else {
            value
        };
        self.from + (self.to - self.from) * value / self.end
    }

    fn label(value: f64) -> String {
        if value.fract() == 0.0 {
            thousands(value as u64)
        } else {
            format!("{value:.1}")
        }
    }
}

/// 1, 2, 2.5 or 5 times a power of ten, and no less than `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    steps
        .iter()
        .map(|step| step * power)
        .find(|step| *step >= least * 0.999)
        .unwrap_or(10.0 * power)
}

impl Plot {
    pub fn svg(&self) -> String {
        let most = |of: fn(&(f64, f64)) -> f64| {
            self.series
                .iter()
                .flat_map(|s| &s.points)
                .map(of)
                .fold(1.0, f64::max)
        };
        // Compilations end where they end; only the other axis is rounded up.
        let most_x = most(|p| p.0);
        let mut x = Axis::linear(most_x, LEFT, WIDTH - RIGHT);
        x.end = most_x;
        x.ticks.retain(|tick| *tick <= most_x);
        let axis = if self.logarithmic {
            Axis::logarithmic
        } else {
            Axis::linear
        };
        let y = axis(most(|p| p.1), HEIGHT - BOTTOM, TOP);

        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} over {}\">\n",
            self.title, self.x_label
        );
        self.axes(&mut svg, &x, &y);
        // The first is drawn last, above the others.
        for series in self.series.iter().rev() {
            line(&mut svg, series, &x, &y);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut text = |class: &str, at_x: f64, at_y: f64, turned: &str, label: &str| {
            writeln!(
                svg,
                "<text class=\"{class}\" x=\"{at_x:.1}\" y=\"{at_y:.1}\"{turned}>{label}</text>"
            )
            .ok();
        };
        for tick in &y.ticks {
            text(
                "y",
                LEFT - 8.0,
                y.place(*tick) + 4.0,
                "",
                &Axis::label(*tick),
            );
        }
        for tick in &x.ticks {
            text("x", x.place(*tick), bottom + 18.0, "", &Axis::label(*tick));
        }
        text(
            "x label",
            (LEFT + right) / 2.0,
            HEIGHT - 10.0,
            "",
            self.x_label,
        );
        let middle = (TOP + bottom) / 2.0;
        let turned = format!(" transform=\"rotate(-90 14 {middle:.1})\"");
        text("x label", 14.0, middle, &turned, self.y_label);
        for at in y.ticks.iter().map(|tick| y.place(*tick)) {
            writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
            )
            .ok();
        }
        writeln!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>"
        )
        .ok();
    }
}

fn line(svg: &mut String, series: &Series, x: &Axis, y: &Axis) {
    let points: Vec<String> = series
        .points
        .iter()
        .map(|(at_x, at_y)| format!("{:.1},{:.1}", x.place(*at_x), y.place(*at_y)))
        .collect();
    let (class, name) = (&series.class, &series.name);
    let points = points.join(" ");
    writeln!(
        svg,
        "<polyline class=\"line {class}\" points=\"{points}\"><title>{name}</title></polyline>"
    )
    .ok();
    // Where a line ends early, its run did.
    if let Some((at_x, at_y)) = series.points.last() {
        let (cx, cy) = (x.place(*at_x), y.place(*at_y));
        writeln!(
            svg,
            "<circle class=\"end {class}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3.5\"/>"
        )
        .ok();
    }
}
