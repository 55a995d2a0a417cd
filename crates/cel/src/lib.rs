//! The Common Expression Language as Kubernetes speaks it: parser, type checker, cost estimate,
//! evaluator with a budget, and Kubernetes' function libraries. Pure.
