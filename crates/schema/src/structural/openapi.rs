//! Publishes custom kinds in OpenAPI documents.
