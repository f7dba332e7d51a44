//! One measured value and its output.

use serde_json::{Value, json};

/// A measured value, its baseline from the same run, and its target.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) baseline: Option<Baseline>,
    pub(crate) target: Option<Target>,
}

/// The same work without the engine, in the unit of the row.
#[derive(Debug)]
pub(crate) struct Baseline {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
}

/// The target of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// A maximum of the value.
    AtMost(f64),
    /// A minimum of the value.
    AtLeast(f64),
    /// A maximum of the ratio to the baseline.
    RatioAtMost(f64),
    /// A minimum of the ratio to the baseline.
    RatioAtLeast(f64),
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            baseline: None,
            target: None,
        }
    }

    pub(crate) fn compared_with(mut self, name: &'static str, value: f64) -> Self {
        self.baseline = Some(Baseline { name, value });
        self
    }

    pub(crate) fn with_target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.baseline
            .as_ref()
            .map(|baseline| self.value / baseline.value)
    }

    fn is_met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::AtMost(limit) => self.value <= limit,
            Target::AtLeast(floor) => self.value >= floor,
            Target::RatioAtMost(limit) => self.ratio()? <= limit,
            Target::RatioAtLeast(floor) => self.ratio()? >= floor,
        })
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline.as_ref().map(|b| json!({"name": b.name, "value": b.value})),
            "ratio": self.ratio(),
            "target": self.target.map(Target::text),
            "met": self.is_met(),
        })
    }

    fn line(&self) -> String {
        let baseline = self.baseline.as_ref().map_or(String::new(), |baseline| {
            format!("{} {}", thousands(baseline.value), baseline.name)
        });
        let ratio = self
            .ratio()
            .map_or(String::new(), |ratio| format!("{ratio:.2} x"));
        let target = self.target.map_or(String::new(), Target::text);
        let met = match self.is_met() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        let Self { name, unit, .. } = self;
        let value = thousands(self.value);
        format!("{name:<42} {value:>12} {unit:<10} {ratio:>7}  {baseline:<38} {target:<14} {met}")
            .trim_end()
            .to_owned()
    }
}

impl Target {
    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("<= {}", thousands(limit)),
            Self::AtLeast(floor) => format!(">= {}", thousands(floor)),
            Self::RatioAtMost(limit) => format!("<= {limit:.2} x"),
            Self::RatioAtLeast(floor) => format!(">= {floor:.2} x"),
        }
    }
}

/// Formats a number with three significant digits or more, and separators of thousands.
fn thousands(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.3}");
    }
    let digits = format!("{value:.0}");
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
