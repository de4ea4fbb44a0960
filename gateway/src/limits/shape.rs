//! The shape of a parsed document with its fragments expanded, computed without expanding them.
//!
//! A fragment is measured once and its measure added wherever it is spread, so thirty fragments that each spread the
//! next one twice are measured in thirty steps and found to have a billion fields.

use super::Limits;
use async_graphql::Positioned;
use async_graphql::parser::types::{
    ExecutableDocument, Field, OperationDefinition, OperationType, Selection, SelectionSet,
};
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

/// Refuses a document that is too large in any way, whose fragments spread themselves, or that subscribes to anything but
/// one field.
pub(super) fn check(document: &ExecutableDocument, limits: &Limits, introspection_depth: usize) -> Result<(), String> {
    let mut ruler = Ruler { document, fragments: HashMap::new() };
    let mut log_ins = 0_usize;
    for (_, operation) in document.operations.iter() {
        one_root_field(&operation.node)?;
        let mut measure = ruler.set(&operation.node.selection_set)?;
        measure.directives = measure.directives.saturating_add(operation.node.directives.len());
        log_ins = log_ins.saturating_add(measure.log_ins);
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

/// A subscription is one field, named in the operation itself: the library would follow several at once, and none that
/// stands in a fragment, without a word.
fn one_root_field(operation: &OperationDefinition) -> Result<(), String> {
    if operation.ty != OperationType::Subscription {
        return Ok(());
    }
    match operation.selection_set.node.items.as_slice() {
        [only] if matches!(only.node, Selection::Field(_)) => Ok(()),
        [_] => Err("the field of a subscription stands in a fragment: name it in the subscription itself, and use \
                    fragments below it"
            .into()),
        fields => {
            Err(format!("a subscription has one field, this one has {}: subscribe to each by itself", fields.len()))
        }
    }
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
            depth: inner.depth.saturating_add(1),
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

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::parser::parse_query;
    use std::fmt::Write as _;

    fn judge(text: &str) -> Result<(), String> {
        check(&parse_query(text).unwrap(), &Limits::default(), 20)
    }

    #[test]
    fn two_operations_are_measured_whatever_they_add_up_to() {
        let small = "mutation a { get_account(username: \"somebody\", password: \"guess-one\") { token } } ";
        let mut bomb = String::from("mutation b { ...f0 } ");
        for n in 0..32 {
            let next = format!("...f{} ", n + 1);
            write!(bomb, "fragment f{n} on Mutation {{ {} }} ", next.repeat(4)).unwrap();
        }
        bomb.push_str("fragment f32 on Mutation { get_account(username: \"a\", password: \"b\") { token } } ");
        // The operations of a document are looked at in any order.
        for _ in 0..32 {
            for document in [format!("{small}{bomb}"), format!("{bomb}{small}")] {
                assert!(judge(&document).unwrap_err().contains("has more"));
            }
        }
    }

    #[test]
    fn a_subscription_is_one_field_of_its_own() {
        let row = "stream_transactions { id }";
        for (document, told) in [
            (format!("subscription {{ ...f }} fragment f on Subscription {{ {row} }}"), "in the subscription itself"),
            (format!("subscription {{ ... on Subscription {{ {row} }} }}"), "in the subscription itself"),
            (format!("subscription {{ ... {{ {row} }} }}"), "in the subscription itself"),
            (format!("subscription {{ a: {row} b: {row} }}"), "each by itself"),
            (format!("subscription {{ {row} ...f }} fragment f on Subscription {{ {row} }}"), "each by itself"),
        ] {
            let refused = judge(&document).unwrap_err();
            assert!(refused.contains(told), "{document}: {refused}");
        }
        for document in [
            format!("subscription {{ {row} }}"),
            "subscription { stream_transactions { ...t ... on Transaction { iban } } } fragment t on Transaction { id }"
                .into(),
            "{ ...q } fragment q on Query { transaction_by_id(id: 1) { id } }".into(),
        ] {
            assert_eq!(judge(&document), Ok(()), "{document}");
        }
    }
}
