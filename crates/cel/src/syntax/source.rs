//! Places in the source.

use std::sync::Arc;

use crate::error::Location;
use crate::syntax::ast::ExprId;

/// The source and where each node is in it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) text: Arc<str>,
    /// By node id: the byte offset, or `NOWHERE`.
    positions: Vec<u32>,
}

const NOWHERE: u32 = u32::MAX;

impl Source {
    pub(crate) fn new(text: &str) -> Source {
        Source { text: Arc::from(text), positions: vec![NOWHERE] }
    }

    /// A new node at a byte offset.
    pub(crate) fn add(&mut self, offset: usize) -> ExprId {
        let id = self.positions.len() as ExprId;
        self.positions.push(u32::try_from(offset).unwrap_or(NOWHERE));
        id
    }

    /// One more than the greatest id.
    pub(crate) fn ids(&self) -> usize {
        self.positions.len()
    }

    /// The byte offset of a node.
    pub(crate) fn offset(&self, id: ExprId) -> usize {
        self.positions.get(id as usize).map_or(0, |offset| *offset as usize)
    }

    /// Where a node is.
    pub(crate) fn location(&self, id: ExprId) -> Location {
        match self.positions.get(id as usize) {
            Some(&offset) if offset != NOWHERE => self.location_at(offset as usize),
            _ => Location::NONE,
        }
    }

    /// Where a byte offset is.
    pub(crate) fn location_at(&self, offset: usize) -> Location {
        let before = &self.text[..offset.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
        Location { line: line as i32, column: before[line_start..].chars().count() as i32 }
    }
}
