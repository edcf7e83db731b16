//! Plots, as SVG.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::growth::Size;
use super::report::{Curve, Point};
use crate::support::Error;

const WIDTH: u32 = 900;
const HEIGHT: u32 = 480;
const FONT: &str = "sans-serif";
const COLOURS: [RGBColor; 2] = [RGBColor(0x8a, 0x8f, 0x98), RGBColor(0x1f, 0x6f, 0xb4)];

/// What of a point is drawn, and how strong the line is.
type Percentile = (&'static str, fn(&Point) -> f64, u32);

/// Latency against load: p50 and p99 of each curve, on a logarithmic scale.
pub(crate) fn curves(file: &Path, curves: &[Curve]) -> Result<(), Error> {
    let percentiles: [Percentile; 2] = [("p50", |point| point.p50, 2), ("p99", |point| point.p99, 1)];
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let most = points().map(|point| point.per_second).fold(0.0, f64::max);
    let slowest = points().map(|point| point.p99).fold(0.0, f64::max);
    let fastest = points().map(|point| point.p50).fold(f64::INFINITY, f64::min);

    let area = SVGBackend::new(file, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Latency against load (open loop, mutual TLS)", (FONT, 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..most * 1.05, (fastest * 0.7..slowest * 1.4).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("calls per second")
        .y_desc("latency, µs")
        .x_label_formatter(&|value| super::report::thousands(*value))
        .y_label_formatter(&|value| super::report::thousands(*value))
        .label_style((FONT, 14))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (curve, colour) in curves.iter().zip(COLOURS) {
        for (name, of, width) in percentiles {
            let style = colour.stroke_width(width);
            let line = curve.points.iter().map(|point| (point.per_second, of(point)));
            chart
                .draw_series(LineSeries::new(line.clone(), style).point_size(width + 1))?
                .label(format!("{}, {name}", curve.name))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font((FONT, 14))
        .draw()?;
    area.present()?;
    Ok(())
}

/// One panel for each figure, over the number of credentials.
pub(crate) fn growth(file: &Path, sizes: &[Size]) -> Result<(), Error> {
    let area = SVGBackend::new(file, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    let panels = area.split_evenly((2, 2));
    #[allow(clippy::cast_precision_loss)]
    let mebibytes = |size: &Size| size.resident_under_load as f64 / f64::from(1 << 20);
    panel(&panels[0], "Start to serving, s", sizes, |size| size.started_in)?;
    panel(&panels[1], "Memory, MiB", sizes, mebibytes)?;
    panel(&panels[2], "Server CPU of a resolve, µs", sizes, |size| {
        size.server_cpu
    })?;
    panel(&panels[3], "Latency of a resolve alone, p50, µs", sizes, |size| {
        size.p50
    })?;
    area.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    sizes: &[Size],
    of: impl Fn(&Size) -> f64,
) -> Result<(), Error> {
    #[allow(clippy::cast_precision_loss)]
    let line: Vec<_> = sizes.iter().map(|size| (size.credentials as f64, of(size))).collect();
    let (Some(first), Some(last)) = (line.first(), line.last()) else {
        return Err("there is nothing to draw".into());
    };
    let highest = line.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 16))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(52)
        .build_cartesian_2d((first.0 * 0.8..last.0 * 1.3).log_scale(), 0.0..highest * 1.2)?;
    let label = |value: &f64| {
        if highest < 10.0 {
            format!("{value:.1}")
        } else {
            super::report::thousands(*value)
        }
    };
    chart
        .configure_mesh()
        .x_labels(4)
        .y_labels(5)
        .x_label_formatter(&|value| super::report::thousands(*value))
        .y_label_formatter(&label)
        .label_style((FONT, 12))
        .light_line_style(TRANSPARENT)
        .draw()?;
    chart.draw_series(LineSeries::new(line, COLOURS[1].stroke_width(2)).point_size(3))?;
    Ok(())
}
