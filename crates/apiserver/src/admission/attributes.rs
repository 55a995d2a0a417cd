//! What admission is told about a request: upstream's `admission.Attributes`.

use serde_json::{Map, Value, json};

use super::Operation;
use crate::call::Call;
use crate::handlers::delete::DeleteOptions;
use crate::kind::Kind;
use crate::object::meta;
use crate::status::ApiError;

/// The kind of the object under review, which for a subresource need not be the resource's: a Scale, a
/// Binding, PodExecOptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectKind<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Version within the group.
    pub version: &'a str,
    /// Kind in CamelCase.
    pub kind: &'a str,
}

impl<'a> ObjectKind<'a> {
    /// The kind of a resource's own objects.
    pub fn of(kind: &'a Kind) -> Self {
        Self { group: &kind.group, version: &kind.version, kind: &kind.kind }
    }
}

/// What is about to happen, but for the new object: plugins get that beside this, to change it
/// ([`super::admit`]) or to look at it ([`super::validate`]). Objects are in the request's version, with
/// `kind` and `apiVersion`. The new object of a delete is `Value::Null`.
pub(crate) struct Attributes<'a> {
    /// The request: its resource (`call.kind`), user, server and headers. Warnings go there.
    pub call: &'a Call,
    /// What is done. An apply that creates is a Create, a patch an Update, a Binding a Create.
    pub operation: Operation,
    /// Kind of the object under review.
    pub kind: ObjectKind<'a>,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Namespace, empty for cluster-scoped objects; a Namespace's own name for Namespaces.
    pub namespace: &'a str,
    /// Name, empty where it is still to be generated and for `deletecollection`.
    pub name: &'a str,
    /// The object as it is stored now, for Update and Delete.
    pub old: Option<&'a Value>,
    /// The options of a delete.
    pub delete: Option<&'a DeleteOptions>,
    /// Nothing will be stored.
    pub dry_run: bool,
}

impl<'a> Attributes<'a> {
    /// A create, of the object called `name` (empty: to be generated) or of a subresource.
    pub fn create(call: &'a Call, kind: ObjectKind<'a>, name: &'a str, dry_run: bool) -> Self {
        let name = if call.info.name.is_empty() { name } else { &call.info.name };
        let is_namespace = call.kind.plural == "namespaces" && call.kind.group.is_empty();
        Self {
            call,
            operation: Operation::Create,
            kind,
            subresource: &call.info.subresource,
            namespace: if is_namespace { name } else { &call.info.namespace },
            name,
            old: None,
            delete: None,
            dry_run,
        }
    }

    /// A change of the object that the path names.
    pub fn update(
        call: &'a Call,
        kind: ObjectKind<'a>,
        subresource: &'a str,
        old: &'a Value,
        dry_run: bool,
    ) -> Self {
        Self {
            call,
            operation: Operation::Update,
            kind,
            subresource,
            namespace: &call.info.namespace,
            name: &call.info.name,
            old: Some(old),
            delete: None,
            dry_run,
        }
    }

    /// A delete of `old`.
    pub fn delete(call: &'a Call, old: &'a Value, options: &'a DeleteOptions) -> Self {
        let collection = call.info.verb == "deletecollection";
        Self {
            call,
            operation: Operation::Delete,
            kind: ObjectKind::of(&call.kind),
            subresource: "",
            namespace: &call.info.namespace,
            name: if collection { "" } else { &call.info.name },
            old: Some(old),
            delete: Some(options),
            dry_run: options.dry_run,
        }
    }

    /// A connection to what the path names; the object under review are the options of the connection.
    pub fn connect(call: &'a Call, kind: ObjectKind<'a>) -> Self {
        Self {
            call,
            operation: Operation::Connect,
            kind,
            subresource: &call.info.subresource,
            namespace: &call.info.namespace,
            name: &call.info.name,
            old: None,
            delete: None,
            dry_run: false,
        }
    }

    /// Whether the object under review is of that group and resource, and not of a subresource.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.is_resource(group, resource)
    }

    /// Whether the request is for that group and resource, or for a subresource of it.
    pub fn is_resource(&self, group: &str, resource: &str) -> bool {
        self.call.kind.group == group && self.call.kind.plural == resource
    }

    /// 403 in the words of upstream's `admission.NewForbidden`: about the object by its name, else by
    /// what its name will begin with.
    pub fn forbidden(&self, object: &Value, why: impl std::fmt::Display) -> ApiError {
        let kind = &self.call.kind;
        let name = [self.name, meta(object, "name"), meta(object, "generateName")];
        let name = name.into_iter().find(|name| !name.is_empty()).unwrap_or("Unknown");
        ApiError::forbidden(&kind.group, &kind.plural, name, why)
    }

    /// The request's options, as webhooks and policies see them; null for a connection.
    pub fn options(&self) -> Value {
        let kind = match self.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut options = Map::new();
        options.insert("kind".to_owned(), kind.into());
        options.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
        if self.dry_run {
            options.insert("dryRun".to_owned(), json!(["All"]));
        }
        match self.delete {
            Some(delete) => delete.show(&mut options),
            None => {
                for field in ["fieldManager", "fieldValidation"] {
                    let value = self.call.query.text(field);
                    if !value.is_empty() {
                        options.insert(field.to_owned(), value.into());
                    }
                }
            }
        }
        Value::Object(options)
    }
}
