//! Kubernetes quantities: the API server writes them in another form than they were sent (`1000m` becomes `1`).

use serde_json::Value;

/// Whether both are quantities, and the same one.
pub(super) fn same_quantity(one: &Value, other: &Value) -> bool {
    let parsed = |value: &Value| match value {
        Value::String(text) => parse(text),
        Value::Number(number) => parse(&number.to_string()),
        _ => None,
    };
    parsed(one).is_some_and(|quantity| Some(quantity) == parsed(other))
}

/// The quantity in units of 10⁻⁹, rounded up as Kubernetes does.
fn parse(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (times, divided) = factor(suffix)?;
    let numerator = digits.checked_mul(times)?;
    let denominator = scale.checked_mul(divided)?;
    Some(numerator.div_euclid(denominator) + i128::from(numerator.rem_euclid(denominator) != 0))
}

/// What a suffix multiplies by, in units of 10⁻⁹, as a fraction.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    const NANO: i128 = 1_000_000_000;
    let decimal = |exponent: i32| -> Option<(i128, i128)> {
        let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
        Some(if exponent < 0 { (NANO, power) } else { (NANO.checked_mul(power)?, 1) })
    };
    let binary = |power: u32| Some((NANO * 1024_i128.pow(power), 1));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_one_quantity_are_the_same() {
        for (one, other) in [
            ("1000m", "1"),
            ("1.5Gi", "1536Mi"),
            ("0.5", "500m"),
            ("1e3", "1k"),
            ("2", "2.0"),
            (".5", "500m"),
        ] {
            assert!(parse(one).is_some() && parse(one) == parse(other), "{one} {other}");
        }
        assert_ne!(parse("1G"), parse("1Gi"));
        assert_eq!(parse("one"), None);
        assert_eq!(parse("1X"), None);
        assert!(same_quantity(&serde_json::json!(2), &serde_json::json!("2000m")));
    }
}
