//! Tolerations, and the effects that they share with taints.

use super::super::{format, labels, rules};
use crate::cursor::Node;
use crate::field::ErrorList;

/// `tolerations`.
pub fn validate(list: &Node, errs: &mut ErrorList) {
    for toleration in list.items() {
        let (key, operator) = (toleration.at("key"), toleration.at("operator"));
        let (value, effect) = (toleration.at("value"), toleration.at("effect"));
        if !key.is_empty() {
            labels::label_name(&key, errs);
        } else if operator.str() != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errs.push(operator.invalid_str(detail));
        }
        if toleration.at("tolerationSeconds").is_set() && effect.str() != "NoExecute" {
            errs.push(effect.invalid_str("effect must be 'NoExecute' when `tolerationSeconds` is set"));
        }
        match operator.str() {
            "Equal" | "" => {
                let wrong = format::label_value(value.str());
                if !wrong.is_empty() {
                    errs.push(operator.invalid_as(value.str(), wrong.join(";")));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let detail = "value must be empty when `operator` is 'Exists'";
                    errs.push(operator.invalid_as(value.str(), detail));
                }
            }
            "Lt" | "Gt" => errs.push(operator.not_supported(&["Equal", "Exists", "Lt", "Gt"])),
            _ => errs.push(operator.not_supported(&["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            taint_effect(&effect, errs);
        }
    }
}

/// What a taint does.
pub fn taint_effect(effect: &Node, errs: &mut ErrorList) {
    rules::one_of(effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"], errs);
}
