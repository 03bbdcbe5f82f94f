//! The report: one page of HTML that needs nothing else.

use std::fmt::Write;

use crate::options::{Options, Which};
use crate::outcome::Outcome;
use crate::picture;
use crate::plot::{Plot, Series};
use crate::table::{FIGURES, mebibytes, thousands};

const STYLE: &str = include_str!("report.css");

/// A plot's title, what it shows, its axis, whether that is logarithmic, and the values.
type View = (
    &'static str,
    &'static str,
    &'static str,
    bool,
    fn(&Outcome) -> Vec<f64>,
);

const VIEWS: [View; 6] = [
    (
        "Resident memory",
        "All of the process's memory that is in RAM: contexts, code, bookkeeping, the workload itself.",
        "MiB",
        false,
        |o| scaled(&o.rss_kib, 1024.0),
    ),
    (
        "Mapped code",
        "Executable mappings that are not from a program or library.",
        "MiB",
        false,
        |o| scaled(&o.mapped_code_kib, 1024.0),
    ),
    (
        "Contexts",
        "LLVM contexts alive, each with the VM's sixty types in it.",
        "contexts (log scale)",
        true,
        |o| scaled(&o.contexts, 1.0),
    ),
    (
        "Generations alive",
        "Generations not yet recycled. Only the cache has them.",
        "generations",
        false,
        |o| {
            if o.generations.iter().any(|n| *n > 0) {
                scaled(&o.generations, 1.0)
            } else {
                Vec::new()
            }
        },
    ),
    (
        "Mappings",
        "Lines in the process's map. The kernel allows 65,530 of them by default.",
        "mappings (log scale)",
        true,
        |o| scaled(&o.maps, 1.0),
    ),
    (
        "Time",
        "Seconds since the start, calls and their checks included.",
        "seconds",
        false,
        |o| o.sample_seconds.clone(),
    ),
];

fn scaled(values: &[u64], unit: f64) -> Vec<f64> {
    values.iter().map(|value| *value as f64 / unit).collect()
}

pub fn page(options: &Options, outcomes: &[Outcome]) -> String {
    let mut page =
        String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    write!(
        page,
        "<title>inkpot: churn</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    )
    .ok();
    introduction(&mut page, options, outcomes);
    legend(&mut page, outcomes);
    page.push_str("<div class=\"plots\">\n");
    for view in VIEWS {
        figure(&mut page, view, outcomes);
    }
    page.push_str("</div>\n");
    for outcome in outcomes {
        picture::figure(&mut page, &outcome.occupancy);
    }
    table(&mut page, outcomes);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn introduction(page: &mut String, options: &Options, outcomes: &[Outcome]) {
    page.push_str("<h1>Recompilation without end</h1>\n");
    page.push_str(
        "<p>Threads call methods of a dynamically typed language. The types that the methods are \
         specialised to keep changing, so methods are invalidated and compiled again, with \
         constants and types that LLVM has not seen before. Every result was checked against an \
         interpreter.</p>\n",
    );
    let budget = if options.keep_all {
        "nothing evicted or invalidated".to_owned()
    } else {
        format!("{} of code for pooled", mebibytes(options.code_budget))
    };
    let survivors = match options.survivors {
        0.0 => String::new(),
        share => format!(" {} % of all methods stay hot for ever.", share * 100.0),
    };
    let settings = match options.which {
        Which::Pooled | Which::All => format!(" {}", options.settings.sentence()),
        _ => String::new(),
    };
    writeln!(
        page,
        "<p class=\"soft\">{} compilations at O{}, {} calling threads, seed {}, {budget}.{survivors}\
         {settings}</p>",
        thousands(options.methods()),
        options.opt,
        options.threads,
        options.seed
    )
    .ok();
    let sentences: Vec<String> = outcomes.iter().filter_map(sentence).collect();
    writeln!(page, "<p>{}</p>", sentences.join(" ")).ok();
}

/// What became of a strategy's memory.
fn sentence(outcome: &Outcome) -> Option<String> {
    let (first, last) = (outcome.rss_kib.first()?, outcome.rss_kib.last()?);
    let slope = match outcome.rss_slope_bytes_per_method {
        Some(bytes) => format!(", in the second half by {bytes:+.0} bytes a compilation"),
        None => String::new(),
    };
    let name = &outcome.strategy;
    Some(format!(
        "<strong>{name}</strong> went from {} to {} resident{slope}.",
        mebibytes(first * 1024),
        mebibytes(last * 1024)
    ))
}

fn legend(page: &mut String, outcomes: &[Outcome]) {
    page.push_str("<ul class=\"legend\">\n");
    for outcome in outcomes {
        let name = &outcome.strategy;
        let says = match name.as_str() {
            "pooled" => "inkpot: contexts and code recycled a generation at a time",
            "global" => "one context for ever, code never freed",
            _ => "a context for each method, kept with its code",
        };
        writeln!(
            page,
            "<li><svg viewBox=\"0 0 44 12\" aria-hidden=\"true\"><line class=\"line {name}\" x1=\"0\" \
             x2=\"44\" y1=\"6\" y2=\"6\"/></svg><span><strong>{name}</strong> \
             <span class=\"soft\">{says}</span></span></li>"
        )
        .ok();
    }
    page.push_str("</ul>\n");
}

fn figure(page: &mut String, view: View, outcomes: &[Outcome]) {
    let (title, caption, y_label, logarithmic, values) = view;
    let series: Vec<Series> = outcomes
        .iter()
        .map(|outcome| Series {
            name: outcome.strategy.clone(),
            class: outcome.strategy.clone(),
            points: outcome
                .sample_compiles
                .iter()
                .map(|n| *n as f64)
                .zip(values(outcome))
                .collect(),
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    if series.is_empty() {
        return;
    }
    let plot = Plot {
        title,
        x_label: "compilations",
        y_label,
        logarithmic,
        series,
    };
    let svg = plot.svg();
    writeln!(
        page,
        "<figure><h2>{title}</h2><figcaption>{caption}</figcaption>\n{svg}</figure>"
    )
    .ok();
}

fn table(page: &mut String, outcomes: &[Outcome]) {
    page.push_str("<div class=\"card\"><table>\n<thead><tr><th></th>");
    for outcome in outcomes {
        write!(page, "<th scope=\"col\">{}</th>", outcome.strategy).ok();
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for (name, of) in FIGURES {
        write!(page, "<tr><th scope=\"row\">{name}</th>").ok();
        for outcome in outcomes {
            write!(page, "<td>{}</td>", of(outcome)).ok();
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table></div>\n");
}
