//! What a person sees of `bindy up`: one screen on a terminal, a line for each event elsewhere.

use std::io::{IsTerminal, Write};

use comfy_table::{Table, presets};

use crate::status::{Problem, Status};

/// Where the state is shown.
pub(crate) struct Screen {
    terminal: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal() }
    }

    /// Shows what changed from `before` to `after`.
    pub(crate) fn show(&mut self, before: &Status, after: &Status) {
        let text =
            if self.terminal { format!("\x1b[2J\x1b[H{}", screen(after)) } else { lines(before, after) };
        self.print(&text);
    }

    /// Says that the servers are being stopped.
    pub(crate) fn stopping(&mut self) {
        self.print("stopping all servers\n");
    }

    /// A closed standard output is no reason to stop serving.
    fn print(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _closed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn screen(status: &Status) -> String {
    let mut servers = Table::new();
    servers.load_style(presets::NOTHING).set_header(["SERVER", "DNS", "READY", ""]);
    for server in &status.servers {
        let name = format!("{}/{}", server.instance, server.index);
        let ready = if server.ready { "yes" } else { "no" };
        servers.add_row([
            &name,
            &server.dns.to_string(),
            ready,
            server.message.as_deref().unwrap_or_default(),
        ]);
    }
    let mut zones = Table::new();
    zones.load_style(presets::NOTHING).set_header(["ZONE", "SERIAL", "RECORDS", "SERVERS", "STATE"]);
    for zone in &status.zones {
        let serial = zone.serial.map(|serial| serial.to_string()).unwrap_or_default();
        let servers = format!("{}/{}", zone.servers.in_sync, zone.servers.desired);
        let ready = zone.conditions.iter().find(|condition| condition.kind == "Ready");
        let state = ready.map(|ready| ready.reason.clone()).unwrap_or_default();
        zones.add_row([&zone.zone_name, &serial, &zone.records.to_string(), &servers, &state]);
    }
    let problems: Vec<String> = status.problems.iter().map(Problem::to_string).collect();
    let problems = match problems.is_empty() {
        true => "no problems\n".to_owned(),
        false => format!("{}\n", problems.join("\n")),
    };
    format!("{servers}\n\n{zones}\n\n{problems}")
}

/// One line for each thing that a person would want to know.
fn lines(before: &Status, after: &Status) -> String {
    let mut lines = Vec::new();
    for server in &after.servers {
        let old = before.server(&server.instance, server.index);
        if old.is_none_or(|old| old.ready != server.ready) {
            let state = if server.ready { "ready" } else { "not ready" };
            lines.push(format!("server {}/{} at {}: {state}", server.instance, server.index, server.dns));
        }
    }
    for zone in &after.zones {
        let old = before.zone(&zone.key);
        if zone.is_in_sync() && !old.is_some_and(|old| old.is_in_sync() && old.serial == zone.serial) {
            let serial = zone.serial.unwrap_or_default();
            lines.push(format!(
                "zone {} serial {serial}: {} records on {} servers",
                zone.zone_name, zone.records, zone.servers.in_sync
            ));
        }
    }
    for zone in before.zones.iter().filter(|zone| after.zone(&zone.key).is_none()) {
        lines.push(format!("zone {}: removed", zone.zone_name));
    }
    lines.extend(after.problems.iter().filter(|new| !before.problems.contains(new)).map(Problem::to_string));
    let solved = before.problems.iter().filter(|old| !after.problems.contains(old));
    lines.extend(solved.map(|old| format!("solved: {old}")));
    if after.is_settled() && !before.is_settled() && !after.servers.is_empty() {
        lines.push(format!("all {} zones are served by all of their servers", after.zones.len()));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}
