//! Schemas of what the program prints for programs (docs/schemas), as strict as tests need them.

use serde_json::Value;

/// A schema with all that may come later ruled out.
///
/// The schemas that are published let members be added, and words where they give examples: a reader
/// that checks what it gets has to go on. Here a member or a word that the schema does not name is a
/// flaw, so that no test passes with one that nobody has written down.
pub fn closed(schema: &str) -> serde_json::Result<Value> {
    let mut schema = serde_json::from_str(schema)?;
    close(&mut schema, false);
    Ok(schema)
}

/// Of `properties` and `$defs` the members are names, whatever they are.
fn close(schema: &mut Value, has_names: bool) {
    match schema {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                close(member, !has_names && ["properties", "$defs"].contains(&name.as_str()));
            }
            if has_names {
                return;
            }
            if members.contains_key("properties") {
                members.entry("additionalProperties").or_insert(false.into());
            }
            if let Some(words) = members.remove("examples") {
                members.insert("enum".into(), words);
            }
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(|schema| close(schema, false)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_words_that_are_not_named_are_ruled_out() {
        let open = r#"{"properties": {"properties": {"type": "string", "examples": ["a", "b"]},
            "examples": {"items": {"properties": {}}}}}"#;
        let expected = serde_json::json!({
            "properties": {
                "properties": {"type": "string", "enum": ["a", "b"]},
                "examples": {"items": {"properties": {}, "additionalProperties": false}},
            },
            "additionalProperties": false,
        });
        assert_eq!(closed(open).unwrap(), expected);
    }
}
