//! One figure, and how it is shown.

use serde_json::{Value, json};

/// A figure, its yardstick from the same run, and what it should reach.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) figure: f64,
    pub(crate) unit: &'static str,
    pub(crate) yardstick: Option<Yardstick>,
    pub(crate) target: Option<Target>,
}

/// The same work without the engine, in the figure's unit.
#[derive(Debug)]
pub(crate) struct Yardstick {
    pub(crate) name: &'static str,
    pub(crate) figure: f64,
}

/// Where a row should end up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// The figure itself, at most.
    AtMost(f64),
    /// The figure itself, at least.
    AtLeast(f64),
    /// The figure by its yardstick, at most.
    RatioAtMost(f64),
    /// The figure by its yardstick, at least.
    RatioAtLeast(f64),
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, figure: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            figure,
            unit,
            yardstick: None,
            target: None,
        }
    }

    pub(crate) fn beside(mut self, name: &'static str, figure: f64) -> Self {
        self.yardstick = Some(Yardstick { name, figure });
        self
    }

    pub(crate) fn aiming(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.yardstick
            .as_ref()
            .map(|yardstick| self.figure / yardstick.figure)
    }

    fn is_met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::AtMost(limit) => self.figure <= limit,
            Target::AtLeast(floor) => self.figure >= floor,
            Target::RatioAtMost(limit) => self.ratio()? <= limit,
            Target::RatioAtLeast(floor) => self.ratio()? >= floor,
        })
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "figure": self.figure,
            "unit": self.unit,
            "yardstick": self.yardstick.as_ref().map(|y| json!({"name": y.name, "figure": y.figure})),
            "ratio": self.ratio(),
            "target": self.target.map(Target::words),
            "met": self.is_met(),
        })
    }

    fn line(&self) -> String {
        let yardstick = self.yardstick.as_ref().map_or(String::new(), |yardstick| {
            format!("{} {}", thousands(yardstick.figure), yardstick.name)
        });
        let ratio = self
            .ratio()
            .map_or(String::new(), |ratio| format!("{ratio:.2} x"));
        let target = self.target.map_or(String::new(), Target::words);
        let met = match self.is_met() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        let Self { name, unit, .. } = self;
        let figure = thousands(self.figure);
        format!("{name:<42} {figure:>12} {unit:<10} {ratio:>7}  {yardstick:<38} {target:<14} {met}")
            .trim_end()
            .to_owned()
    }
}

impl Target {
    fn words(self) -> String {
        match self {
            Self::AtMost(limit) => format!("<= {}", thousands(limit)),
            Self::AtLeast(floor) => format!(">= {}", thousands(floor)),
            Self::RatioAtMost(limit) => format!("<= {limit:.2} x"),
            Self::RatioAtLeast(floor) => format!(">= {floor:.2} x"),
        }
    }
}

/// Three digits at least, and no more behind the point than they need.
fn thousands(figure: f64) -> String {
    if figure < 10.0 {
        return format!("{figure:.3}");
    }
    let digits = format!("{figure:.0}");
    let mut shown = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

pub(crate) fn table(rows: &[Row]) -> String {
    let lines: Vec<String> = rows.iter().map(Row::line).collect();
    lines.join("\n")
}

pub(crate) fn json(rows: &[Row]) -> Value {
    Value::Array(rows.iter().map(Row::json).collect())
}
