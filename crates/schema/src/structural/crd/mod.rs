//! What a CustomResourceDefinition must satisfy.
