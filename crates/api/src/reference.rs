//! The reference of all kinds, fields, conditions and reasons, as one page of Markdown.
//!
//! Everything on it is read from the CRDs and the tables of this crate, so it cannot say anything else than they do.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

use crate::{API_VERSION, ConditionType, Reason};

/// The page, without its notice.
pub(crate) fn markdown(crds: &[CustomResourceDefinition]) -> String {
    let mut page = format!(
        "# Reference\n\nAll kinds are of `{API_VERSION}` and live in a namespace. `kubectl explain KIND.spec` shows the \
         same text.\n\n"
    );
    for crd in crds {
        kind(&mut page, crd);
    }
    page.push_str("## Conditions\n\n| condition | True means |\n|---|---|\n");
    for condition in ConditionType::ALL {
        row(&mut page, &[&format!("`{condition}`"), condition.meaning()]);
    }
    page.push_str("\n## Reasons\n\n| reason | seen as | meaning | what to do |\n|---|---|---|---|\n");
    for reason in Reason::ALL {
        row(&mut page, &[&format!("`{reason}`"), reason.seen(), reason.meaning(), reason.remedy()]);
    }
    page
}

fn kind(page: &mut String, crd: &CustomResourceDefinition) {
    let names = &crd.spec.names;
    let Some(version) = crd.spec.versions.first() else { return };
    let Some(schema) = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()) else {
        return;
    };
    let short: Vec<String> = names.short_names.iter().flatten().map(|name| format!("`{name}`")).collect();
    let columns: Vec<&str> =
        version.additional_printer_columns.iter().flatten().map(|column| column.name.as_str()).collect();
    let _ = writeln!(page, "## {}\n\n{}\n", names.kind, text(schema.description.as_deref()));
    let _ = writeln!(
        page,
        "Commands: `{}`, short {}. Columns: {}.\n",
        names.plural,
        short.join(", "),
        columns.join(", ")
    );
    page.push_str("| field | type | |\n|---|---|---|\n");
    for (name, part) in
        schema.properties.iter().flatten().filter(|(name, _)| ["spec", "status"].contains(&name.as_str()))
    {
        fields(page, name, part);
    }
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        let _ = writeln!(page, "\nRule: {}.", text(rule.message.as_deref()));
    }
    page.push('\n');
}

/// A row for each field below `path`, depth first.
fn fields(page: &mut String, path: &str, schema: &JSONSchemaProps) {
    let required = schema.required.as_deref().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let field_path = format!("{path}.{name}");
        let mut description = text(field.description.as_deref());
        if required.contains(name) && path.starts_with("spec") {
            description = format!("**Required.** {description}");
        }
        row(page, &[&format!("`{field_path}`"), &type_of(field), &description]);
        if name == "conditions" {
            continue;
        }
        match items(field) {
            Some(items) => fields(page, &format!("{field_path}[]"), items),
            None => fields(page, &field_path, field),
        }
    }
}

fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(schema) => Some(schema),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

fn type_of(schema: &JSONSchemaProps) -> String {
    if let Some(items) = items(schema) {
        return format!("list of {}", type_of(items));
    }
    if let Some(choices) = &schema.enum_ {
        let choices: Vec<String> = choices.iter().map(|choice| choice.0.to_string()).collect();
        return choices.join(" or ");
    }
    let plain = schema.type_.as_deref().unwrap_or("any");
    match (schema.format.as_deref(), schema.minimum, schema.maximum, schema.max_length) {
        (Some(format @ ("ipv4" | "ipv6")), ..) => format!("{format} address"),
        (_, Some(least), Some(most), _) => format!("{plain} {least} to {most}"),
        (_, _, _, Some(most)) => format!("{plain}, up to {most} characters"),
        _ if schema.additional_properties.is_some() => "map of strings".to_owned(),
        _ => plain.to_owned(),
    }
}

fn text(description: Option<&str>) -> String {
    description.unwrap_or_default().replace('\n', " ")
}

fn row(page: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    let _ = writeln!(page, "| {} |", cells.join(" | "));
}
