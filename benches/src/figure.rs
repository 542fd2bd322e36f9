//! The last lines of every bench: one per target, for people and for scripts.

/// Which side of the target is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Good {
    AtLeast,
    AtMost,
}

/// Prints `figure NAME VALUE UNIT target OP VALUE ok|short`.
pub fn figure(name: &str, value: f64, unit: &str, good: Good, target: f64) {
    let (op, ok) = match good {
        Good::AtLeast => (">=", value >= target),
        Good::AtMost => ("<=", value <= target),
    };
    let verdict = if ok { "ok" } else { "short" };
    println!("figure {name} {} {unit} target {op} {target} {verdict}", rounded(value));
}

/// Three significant digits are what a noisy machine can say.
fn rounded(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
