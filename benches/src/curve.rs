//! Scaling curves: what a rate does while one thing grows, as CSV and as pictures.
//!
//! A flat line is the claim; both axes are logarithmic, so that a slope is a power and a factor of
//! two is as wide everywhere.

use crate::Outcome;
use plotters::prelude::*;
use plotters::style::register_font;
use std::path::Path;

/// Pixels.
const SIZE: (u32, u32) = (960, 600);
const FONT: &str = "sans-serif";

/// Rates against what grows, in the order they were measured.
#[derive(Default)]
pub struct Curves {
    curves: Vec<Curve>,
}

struct Curve {
    /// What grows.
    of: &'static str,
    points: Vec<(f64, f64)>,
}

impl Curves {
    pub fn add(&mut self, of: &'static str, x: usize, rate: f64) {
        let point = (x as f64, rate);
        match self.curves.iter_mut().find(|curve| curve.of == of) {
            Some(curve) => curve.points.push(point),
            None => self.curves.push(Curve { of, points: vec![point] }),
        }
    }

    /// The fastest over the slowest, 1 of a curve that is not there.
    pub fn spread(&self, of: &str) -> f64 {
        let curve = self.curves.iter().find(|curve| curve.of == of);
        curve.map_or(1.0, |curve| curve.most() / curve.least())
    }

    /// Writes `NAME.csv` and a picture of each curve, `NAME-OF.png`, into a directory.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn write(&self, dir: &Path, name: &str, unit: &str) -> Outcome<()> {
        std::fs::create_dir_all(dir)?;
        let mut csv = format!("curve,x,{}\n", unit.replace('/', "_per_").replace(' ', "_"));
        for curve in &self.curves {
            for (x, rate) in &curve.points {
                csv.push_str(&format!("{},{x:.0},{rate:.0}\n", curve.of));
            }
            let path = dir.join(format!("{name}-{}.png", curve.of));
            curve.draw(&path, &format!("{name}: {unit} over {}", curve.of))?;
        }
        std::fs::write(dir.join(format!("{name}.csv")), csv)?;
        println!("\ncurves: {}/{name}.csv and {name}-*.png", dir.display());
        Ok(())
    }
}

impl Curve {
    fn most(&self) -> f64 {
        self.points.iter().map(|(_, rate)| *rate).fold(f64::MIN_POSITIVE, f64::max)
    }

    fn least(&self) -> f64 {
        self.points.iter().map(|(_, rate)| *rate).fold(f64::MAX, f64::min)
    }

    fn draw(&self, path: &Path, caption: &str) -> Outcome<()> {
        // Letters from the program itself: a machine of benches has no fonts.
        register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
            .map_err(|_| "the font is broken")?;
        let root = BitMapBackend::new(path, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let from = self.points.first().map_or(1.0, |(x, _)| *x);
        let to = self.points.last().map_or(from, |(x, _)| *x);
        // A decade around the curve: on less, noise looks like a slope.
        let (low, high) = (self.least() / 3.0, self.most() * 3.0);
        let mut chart = ChartBuilder::on(&root)
            .caption(caption, (FONT, 22))
            .margin(16)
            .x_label_area_size(40)
            .y_label_area_size(100)
            .build_cartesian_2d((from..to * 1.01).log_scale(), (low..high).log_scale())?;
        let number = |value: &f64| format!("{value:.0}");
        chart
            .configure_mesh()
            .x_desc(self.of)
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .label_style((FONT, 15))
            .draw()?;
        chart.draw_series(LineSeries::new(self.points.iter().copied(), BLUE.stroke_width(2)))?;
        let dots = self.points.iter().map(|point| Circle::new(*point, 4, BLUE.filled()));
        chart.draw_series(dots)?;
        Ok(root.present()?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_curve_is_written_as_numbers_and_as_a_picture() {
        let dir = tempfile::tempdir().unwrap();
        let mut curves = Curves::default();
        for (x, rate) in [(100, 400_000.0), (10_000, 500_000.0), (20_000, 300_000.0)] {
            curves.add("instances", x, rate);
        }
        curves.write(dir.path(), "decide", "decisions/s").unwrap();
        let csv = std::fs::read_to_string(dir.path().join("decide.csv")).unwrap();
        assert_eq!(
            csv,
            "curve,x,decisions_per_s\ninstances,100,400000\ninstances,10000,500000\n\
             instances,20000,300000\n"
        );
        let png = std::fs::read(dir.path().join("decide-instances.png")).unwrap();
        assert!(png.starts_with(b"\x89PNG"));
        assert!((curves.spread("instances") - 5.0 / 3.0).abs() < 1e-9);
    }
}
