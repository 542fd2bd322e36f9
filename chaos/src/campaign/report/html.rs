//! The report as one page that needs nothing else: the text, and pictures drawn as SVG.
//!
//! Three pictures: write latency over time with the faults behind it; the gap of every fault; and
//! the percentiles of latency.

use super::Report;
use std::fmt::Write as _;

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 320.0;
/// Columns of the timeline: the worst write of each is drawn, so that no spike is lost.
const COLUMNS: usize = 1200;
/// The latency axis is logarithmic, from 0.1 ms to 100 s.
const DECADES: f64 = 6.0;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:1240px;margin:2em auto;\
padding:0 1em;color:#222}svg{background:#fafafa;border:1px solid #ddd;width:100%}\
pre{background:#f6f6f6;padding:1em;overflow:auto;font-size:13px}.ok{color:#176a2f}\
.broken{color:#b3001b}text{font:11px system-ui,sans-serif;fill:#555}";

pub fn page(report: &Report) -> String {
    let verdict = match report.passed() {
        true => "<span class=ok>every invariant held</span>".to_owned(),
        false => format!("<span class=broken>{} broken</span>", report.breaches.len()),
    };
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Muster fault campaign</title>\
         <style>{STYLE}</style><h1>Fault campaign: {verdict}</h1>\
         <p>{} faults in {:.0} s, seed {}.</p>\
         <h2>Write latency, and faults behind it</h2>{}{}\
         <h2>Time without an acknowledged write, per fault</h2>{}\
         <h2>Latency by percentile</h2>{}\
         <h2>In words</h2><pre>{}</pre></html>\n",
        report.strikes.len(),
        report.seconds,
        report.seed,
        timeline(report),
        legend(report),
        gaps(report),
        percentiles(report),
        escaped(&report.to_string()),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A colour of its own for each row.
fn colour(report: &Report, row: &str) -> String {
    let place = report.rows.iter().position(|(name, ..)| *name == row).unwrap_or(0);
    format!("hsl({} 65% 55%)", (place * 47) % 360)
}

/// Where a latency stands, from the bottom.
fn height(micros: u64) -> f64 {
    ((micros.max(1) as f64).log10() - 2.0).clamp(0.0, DECADES) / DECADES * HEIGHT
}

fn grid(svg: &mut String) {
    for (decade, label) in ["0.1 ms", "1 ms", "10 ms", "100 ms", "1 s", "10 s"].iter().enumerate() {
        let y = HEIGHT - decade as f64 / DECADES * HEIGHT;
        let _ = write!(
            svg,
            "<line x1=0 x2={WIDTH} y1={y:.1} y2={y:.1} stroke=#ddd /><text x=4 y={:.1}>{label}\
             </text>",
            y - 3.0
        );
    }
}

fn timeline(report: &Report) -> String {
    let span = (report.seconds * 1e6).max(1.0);
    let x = |micros: u64| micros as f64 / span * WIDTH;
    let mut svg = format!("<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img>");
    for strike in &report.strikes {
        let (from, to) = (x(strike.struck), x(strike.healed));
        let _ = write!(
            svg,
            "<rect x={from:.1} y=0 width={:.1} height={HEIGHT} fill='{}' opacity=.35><title>{}: \
             {}</title></rect>",
            (to - from).max(1.5),
            colour(report, strike.row),
            strike.row,
            escaped(&strike.what),
        );
    }
    grid(&mut svg);
    let mut worst = vec![0u64; COLUMNS];
    for write in &report.writes {
        let column = (x(write.begun) / WIDTH * COLUMNS as f64) as usize;
        let worst = &mut worst[column.min(COLUMNS - 1)];
        *worst = (*worst).max(write.ended - write.begun);
    }
    for (column, micros) in worst.iter().enumerate().filter(|(_, micros)| **micros > 0) {
        let (x, y) = (column as f64 / COLUMNS as f64 * WIDTH, HEIGHT - height(*micros));
        let _ = write!(svg, "<circle cx={x:.1} cy={y:.1} r=1.4 fill=#123 />");
    }
    for breach in &report.breaches {
        let x = x(breach.at);
        let _ = write!(
            svg,
            "<line x1={x:.1} x2={x:.1} y1=0 y2={HEIGHT} stroke=#b3001b stroke-width=2><title>{}: \
             {}</title></line>",
            breach.invariant,
            escaped(&breach.what),
        );
    }
    svg + "</svg>"
}

fn legend(report: &Report) -> String {
    let struck = |row: &str| report.strikes.iter().any(|strike| strike.row == row);
    let rows = report.rows.iter().filter(|(name, ..)| struck(name));
    let items = rows.map(|(name, fault, ..)| {
        let colour = colour(report, name);
        format!("<span style='color:{colour}'>&#9632;</span> {name}: {fault}")
    });
    format!("<p>{}</p>", items.collect::<Vec<_>>().join(" &nbsp; "))
}

fn gaps(report: &Report) -> String {
    let mut svg = format!("<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img>");
    grid(&mut svg);
    let wide = WIDTH / report.strikes.len().max(1) as f64;
    for (place, strike) in report.strikes.iter().enumerate() {
        let high = height(strike.gap);
        let _ = write!(
            svg,
            "<rect x={:.1} y={:.1} width={:.1} height={high:.1} fill='{}'><title>{}: {}; {:.2} s\
             </title></rect>",
            place as f64 * wide,
            HEIGHT - high,
            (wide * 0.8).max(1.0),
            colour(report, strike.row),
            strike.row,
            escaped(&strike.what),
            strike.gap as f64 / 1e6,
        );
    }
    svg + "</svg>"
}

/// Percentiles on a scale where each step is ten times rarer.
fn percentiles(report: &Report) -> String {
    let mut svg = format!("<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img>");
    grid(&mut svg);
    let steps = 4.0;
    for (nines, label) in ["50 %", "90 %", "99 %", "99.9 %", "99.99 %"].iter().enumerate() {
        let x = nines as f64 / steps * (WIDTH - 60.0);
        let _ = write!(svg, "<text x={x:.1} y={:.1}>{label}</text>", HEIGHT - 3.0);
    }
    for (kind, calls) in &report.calls {
        let mut points = String::new();
        for step in 0..=200 {
            let nines = f64::from(step) / 200.0 * steps;
            let quantile = 1.0 - 0.5f64.min(0.1f64.powf(nines));
            let y = HEIGHT - height(calls.latency.value_at_quantile(quantile));
            let _ = write!(points, "{:.1},{y:.1} ", nines / steps * (WIDTH - 60.0));
        }
        let colour = if *kind == "write" { "#b3001b" } else { "#124f8c" };
        let last = HEIGHT - height(calls.latency.value_at_quantile(0.9999));
        let _ = write!(
            svg,
            "<polyline points='{points}' fill=none stroke='{colour}' stroke-width=2 />\
             <text x={:.1} y={last:.1}>{kind}</text>",
            WIDTH - 55.0
        );
    }
    svg + "</svg>"
}
