//! The shape of a parsed document with its fragments expanded, computed without expanding them.
//!
//! A fragment is measured once and its measure added wherever it is spread, so thirty fragments that each spread the
//! next one twice are measured in thirty steps and found to have a billion fields.

use super::Limits;
use async_graphql::Positioned;
use async_graphql::parser::types::{ExecutableDocument, Field, Selection, SelectionSet};
use std::collections::HashMap;

#[derive(Debug, Clone, Copy, Default)]
struct Measure {
    depth: usize,
    root_fields: usize,
    fields: usize,
    aliases: usize,
    directives: usize,
    log_ins: usize,
    /// Root fields that do not begin with two underscores.
    plain_root_fields: usize,
}

impl Measure {
    fn add(&mut self, other: Self) {
        self.depth = self.depth.max(other.depth);
        self.root_fields = self.root_fields.saturating_add(other.root_fields);
        self.fields = self.fields.saturating_add(other.fields);
        self.aliases = self.aliases.saturating_add(other.aliases);
        self.directives = self.directives.saturating_add(other.directives);
        self.log_ins = self.log_ins.saturating_add(other.log_ins);
        self.plain_root_fields = self.plain_root_fields.saturating_add(other.plain_root_fields);
    }
}

/// Refuses a document that is too large in any way, or whose fragments spread themselves.
pub(super) fn check(document: &ExecutableDocument, limits: &Limits, introspection_depth: usize) -> Result<(), String> {
    let mut ruler = Ruler { document, fragments: HashMap::new() };
    let mut log_ins = 0;
    for (_, operation) in document.operations.iter() {
        let mut measure = ruler.set(&operation.node.selection_set)?;
        measure.directives = measure.directives.saturating_add(operation.node.directives.len());
        log_ins += measure.log_ins;
        let depth = if measure.plain_root_fields == 0 { introspection_depth } else { limits.depth };
        for (what, found, most) in [
            ("nests fields deeper", measure.depth, depth),
            ("has more root fields", measure.root_fields, limits.root_fields),
            ("has more fields", measure.fields, limits.fields),
            ("has more aliases", measure.aliases, limits.aliases),
            ("has more directives", measure.directives, limits.directives),
            ("has more log-ins", log_ins, limits.log_ins),
        ] {
            if found > most {
                return Err(format!("the document {what} than {most}"));
            }
        }
    }
    Ok(())
}

struct Ruler<'a> {
    document: &'a ExecutableDocument,
    /// `None` while it is being measured.
    fragments: HashMap<&'a str, Option<Measure>>,
}

impl<'a> Ruler<'a> {
    fn set(&mut self, set: &'a Positioned<SelectionSet>) -> Result<Measure, String> {
        let mut total = Measure::default();
        for selection in &set.node.items {
            total.directives = total.directives.saturating_add(selection.node.directives().len());
            // Every selection counts, not fields alone: whoever expands fragments walks through spreads that lead
            // to nothing as well.
            total.fields = total.fields.saturating_add(1);
            total.add(match &selection.node {
                Selection::Field(field) => self.field(&field.node)?,
                Selection::InlineFragment(inline) => self.set(&inline.node.selection_set)?,
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node)?,
            });
        }
        Ok(total)
    }

    fn field(&mut self, field: &'a Field) -> Result<Measure, String> {
        let inner = self.set(&field.selection_set)?;
        let name = field.name.node.as_str();
        Ok(Measure {
            depth: inner.depth + 1,
            root_fields: 1,
            fields: inner.fields,
            aliases: inner.aliases.saturating_add(usize::from(field.alias.is_some())),
            directives: inner.directives,
            log_ins: inner.log_ins.saturating_add(usize::from(name == "get_account")),
            plain_root_fields: usize::from(!name.starts_with("__")),
        })
    }

    fn fragment(&mut self, name: &'a str) -> Result<Measure, String> {
        match self.fragments.get(name) {
            Some(Some(measure)) => return Ok(*measure),
            Some(None) => return Err(format!("fragment {name} spreads itself")),
            None => {}
        }
        // An unknown fragment is left to the validation.
        let Some(fragment) = self.document.fragments.get(name) else { return Ok(Measure::default()) };
        self.fragments.insert(name, None);
        let measure = self.set(&fragment.node.selection_set)?;
        self.fragments.insert(name, Some(measure));
        Ok(measure)
    }
}
