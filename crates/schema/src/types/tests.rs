use super::*;

#[test]
fn every_reference_resolves() {
    for package in packages() {
        for (_, ty) in structs_of(package.group, package.version) {
            ty.zero();
            for field in ty.as_struct().into_iter().flat_map(Struct::fields) {
                assert!(!field.ty.go().is_empty(), "{ty:?}.{}", field.name);
                if let Shape::List(List { items, merge: ListMerge::Map(keys), .. }) = field.ty.shape() {
                    for key in keys {
                        assert!(items.field(key).is_some(), "{ty:?}.{}: no key {key}", field.name);
                    }
                }
            }
        }
    }
}

#[test]
fn inline_fields_belong_to_the_outer_struct() {
    let volume = get("io.k8s.api.core.v1.Volume").unwrap();
    assert!(volume.field("emptyDir").is_some());
    assert_eq!(volume.go(), "v1.Volume");
}

#[test]
fn zero_values_are_what_go_writes() {
    let pod = of_kind("", "v1", "Pod").unwrap();
    assert_eq!(pod.zero(), serde_json::json!({"metadata": {}, "spec": {"containers": null}, "status": {}}));
}
