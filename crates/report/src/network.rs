//! Networks: which things go together, drawn around a circle.

use plotters::element::{Circle, PathElement, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, RGBColor, TextStyle};
use serde::{Deserialize, Serialize};

use crate::ReportError;
use crate::canvas::{Key, Look, TEXT, WIDTH, draw, no_data, text_of};
use crate::palette::INK;

const HEIGHT: i32 = 1500;
const ABOVE: RGBColor = RGBColor(213, 94, 0);
const BELOW: RGBColor = RGBColor(0, 114, 178);

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// Number of one node, from 0.
    pub from: usize,
    /// Number of the other node.
    pub to: usize,
    /// How strong, with a sign; the strongest is drawn the widest.
    pub strength: f64,
}

/// Nodes around a circle, in their order, and connections between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkPlot {
    /// Heading.
    pub title: String,
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// Connections; of a node that is not there, or not finite, are left out.
    pub edges: Vec<Edge>,
    /// What connections above and below zero are called.
    pub signs: (String, String),
}

impl NetworkPlot {
    /// Draws the network.
    ///
    /// # Errors
    /// The drawing library refuses.
    pub fn svg(&self) -> Result<String, ReportError> {
        let key = |name: &String, colour| Key {
            name: name.clone(),
            colour,
            look: Look::Line,
        };
        let keys = [key(&self.signs.0, ABOVE), key(&self.signs.1, BELOW)];
        let count = self.nodes.len();
        let place = |node: usize, radius: f64| {
            let angle = std::f64::consts::TAU * (node as f64 / count as f64 - 0.25);
            let (x, y) = (angle.cos() * radius, angle.sin() * radius);
            (WIDTH / 2 + x.round() as i32, 690 + y.round() as i32)
        };
        let radius = 560.0;
        draw(&self.title, HEIGHT, &keys, |sheet| {
            if count == 0 {
                return no_data(sheet);
            }
            let there = |e: &&Edge| e.from < count && e.to < count && e.strength.is_finite();
            let mut edges: Vec<&Edge> = self.edges.iter().filter(there).collect();
            edges.sort_by(|a, b| a.strength.abs().total_cmp(&b.strength.abs()));
            let strongest = edges
                .last()
                .map_or(1.0, |edge| edge.strength.abs().max(1e-300));
            for edge in edges {
                let part = edge.strength.abs() / strongest;
                let colour = if edge.strength > 0.0 { ABOVE } else { BELOW };
                let style = colour
                    .mix(0.25 + 0.75 * part)
                    .stroke_width((1.0 + 11.0 * part).round() as u32);
                let ends = [place(edge.from, radius), place(edge.to, radius)];
                sheet
                    .draw(&PathElement::new(ends, style))
                    .map_err(text_of)?;
            }
            let every = count.div_ceil(60).max(1);
            for (node, name) in self.nodes.iter().enumerate() {
                let dot = Circle::new(place(node, radius), 8, INK.filled());
                sheet.draw(&dot).map_err(text_of)?;
                if node % every != 0 {
                    continue;
                }
                let at = place(node, radius + 24.0);
                let side = match at.0 - WIDTH / 2 {
                    i32::MIN..=-40 => HPos::Right,
                    -39..=39 => HPos::Center,
                    _ => HPos::Left,
                };
                let style = TextStyle::from(("sans-serif", TEXT).into_font())
                    .color(&INK)
                    .pos(Pos::new(side, VPos::Center));
                sheet
                    .draw(&Text::new(name.as_str(), at, style))
                    .map_err(text_of)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_width_and_colour() {
        let edge = |from, to, strength| Edge { from, to, strength };
        let plot = NetworkPlot {
            title: "Pairs".into(),
            nodes: ["A1", "B2", "C3"].map(str::to_owned).into(),
            edges: vec![
                edge(0, 1, 2.0),
                edge(1, 2, -1.0),
                edge(0, 9, 1.0),
                edge(0, 2, f64::NAN),
            ],
            signs: ("above".into(), "below".into()),
        };
        let svg = plot.svg().unwrap();
        assert_eq!(svg.matches("<circle").count(), 3);
        assert_eq!(
            svg.matches("stroke-width=\"12\"").count(),
            1,
            "the strongest"
        );
        assert!(svg.contains("\nC3\n") && svg.contains("\nabove\n"));
        let none = NetworkPlot {
            nodes: vec![],
            ..plot
        };
        assert!(none.svg().unwrap().contains("\nno data\n"));
    }
}
