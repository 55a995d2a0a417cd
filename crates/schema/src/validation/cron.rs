//! Schedules of CronJobs, with the messages of the parser that upstream uses (robfig/cron).

/// One field of a schedule.
struct Field {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { min: 0, max: 59, names: &[] },
    Field { min: 0, max: 23, names: &[] },
    Field { min: 1, max: 31, names: &[] },
    Field {
        min: 1,
        max: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Field { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];
const DESCRIPTORS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Whether the text is a schedule; if not, why.
pub fn check(schedule: &str) -> Result<(), String> {
    let schedule = match schedule.strip_prefix("TZ=").or_else(|| schedule.strip_prefix("CRON_TZ=")) {
        Some(zoned) => zoned.split_once(' ').map_or("", |(_, rest)| rest).trim(),
        None => schedule,
    };
    if schedule.starts_with('@') {
        return descriptor(schedule);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    fields.iter().zip(FIELDS).try_for_each(|(text, field)| {
        text.split(',').filter(|p| !p.is_empty()).try_for_each(|part| range(part, &field))
    })
}

fn descriptor(text: &str) -> Result<(), String> {
    if DESCRIPTORS.contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("@every ") {
        Some(every) if is_duration(every) => Ok(()),
        Some(every) => Err(format!(
            "failed to parse duration {text}: time: invalid duration {}",
            crate::field::quote(every)
        )),
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

/// Whether the text is a Go duration such as `1h30m`.
pub fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit);
        if number.is_empty() || number.matches('.').count() > 1 || number == "." || !units.contains(&unit) {
            return false;
        }
        rest = next;
    }
    true
}

/// One part of a field: `*`, `?`, `3`, `1-5`, each with an optional `/step`.
fn range(text: &str, field: &Field) -> Result<(), String> {
    let steps: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = steps[0].split('-').collect();
    let (start, mut end) = if ends[0] == "*" || ends[0] == "?" {
        (field.min, field.max)
    } else {
        let start = number(ends[0], field)?;
        match ends[..] {
            [_] => (start, start),
            [_, end] => (start, number(end, field)?),
            _ => return Err(format!("too many hyphens: {text}")),
        }
    };
    match steps[..] {
        [_] => {}
        [_, step] => {
            let step = integer(step)?;
            if ends.len() == 1 {
                end = field.max;
            }
            if step == 0 {
                return Err(format!("step of range should be a positive number: {text}"));
            }
        }
        _ => return Err(format!("too many slashes: {text}")),
    }
    if start < field.min {
        return Err(format!("beginning of range ({start}) below minimum ({}): {text}", field.min));
    }
    if end > field.max {
        return Err(format!("end of range ({end}) above maximum ({}): {text}", field.max));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    Ok(())
}

fn number(text: &str, field: &Field) -> Result<u32, String> {
    let by_name = field.names.iter().position(|name| text.eq_ignore_ascii_case(name));
    match by_name {
        Some(index) => Ok(field.min + u32::try_from(index).unwrap_or_default()),
        None => integer(text),
    }
}

fn integer(text: &str) -> Result<u32, String> {
    let quoted = crate::field::quote(text);
    match text.parse::<i64>() {
        Ok(n) if n < 0 => Err(format!("negative number ({n}) not allowed: {text}")),
        Ok(n) => Ok(u32::try_from(n).unwrap_or(u32::MAX)),
        Err(_) => {
            Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {quoted}: invalid syntax"))
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn schedules() {
        let check =
            |text: &str, expected: Expect| expected.assert_eq(&super::check(text).err().unwrap_or_default());
        check("*/5 0-6 1,15 jan MON-fri", expect![""]);
        check("@hourly", expect![""]);
        check("@every 1h30m", expect![""]);
        check("bad", expect!["expected exactly 5 fields, found 1: [bad]"]);
        check("60 * * * *", expect!["end of range (60) above maximum (59): 60"]);
        check(
            "* * * * x",
            expect![[r#"failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax"#]],
        );
        assert!(is_duration("720h") && is_duration("1.5s") && !is_duration("5") && !is_duration("h"));
    }
}
