//! The schema as text: the file in the repository is the schema, and everything in it is described.

use crate::fake::World;
use serde_json::Value;

#[test]
fn the_file_is_the_schema() {
    let file = include_str!("../../schema.graphql");
    let sdl = gateway::schema::sdl();
    assert!(file == sdl, "write the file anew: gateway sdl > gateway/schema.graphql");
}

#[test]
fn the_names_of_the_predecessors_are_there() {
    let sdl: String = gateway::schema::sdl().lines().filter(|line| !line.trim_start().starts_with('"')).collect();
    let flat: String = sdl.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["enum dtype", "type Transaction", "type AccountResult", "type MoneyTransferResult", "scalar Cents"] {
        assert!(flat.contains(part), "{part}");
    }
}

#[tokio::test]
async fn every_type_field_and_argument_has_a_description() {
    let world = World::new().await;
    let query = "{ __schema { types { name description kind fields { name description args { name description } } enumValues { name description } } } }";
    let types = world.data(query).await["__schema"]["types"].clone();
    let mut missing = Vec::new();
    let mut check = |path: String, item: &Value| {
        if item["description"].as_str().is_none_or(str::is_empty) {
            missing.push(path);
        }
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for each in &list(&types) {
        let name = each["name"].as_str().unwrap();
        // GraphQL's own.
        if name.starts_with("__") || ["ID", "Int", "Float", "String", "Boolean"].contains(&name) {
            continue;
        }
        check(name.to_owned(), each);
        for field in list(&each["fields"]) {
            let path = format!("{name}.{}", field["name"].as_str().unwrap());
            check(path.clone(), &field);
            list(&field["args"]).iter().for_each(|arg| check(format!("{path}({})", arg["name"]), arg));
        }
        list(&each["enumValues"]).iter().for_each(|value| check(format!("{name}.{}", value["name"]), value));
    }
    assert_eq!(missing, Vec::<String>::new());
}
