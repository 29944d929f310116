// SPDX-License-Identifier: Apache-2.0
//! Chat templates, rendered as transformers does with Jinja2.

use std::ffi::{c_char, CString};

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};

/// Steps of the template engine; real templates take 30 to 70 for each message. Each can nest a value one level deeper, and
/// comparing or dropping it takes up to 540 bytes of stack for each level: limits::STACK_BYTES is enough for twice that.
const FUEL: u64 = 500_000;
const MAX_DEPTH: usize = 200;

/// strftime(format, out, capacity) of now.
pub type Clock = extern "C" fn(*const c_char, *mut c_char, usize) -> usize;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// How Python writes values: json.dumps or repr().
struct Writer {
    out: String,
    json: bool,
    indent: Option<String>,
    separators: (String, String), // between items, after a key
}

impl Writer {
    fn new_line(&mut self, depth: usize) {
        let indent = self.indent.as_ref().map(|indent| format!("\n{}", indent.repeat(depth)));
        self.out.push_str(&indent.unwrap_or_default());
    }

    fn string(&mut self, text: &str) {
        if self.json {
            return self.out.push_str(&serde_json::Value::from(text).to_string());
        }
        let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
        self.out.push(quote);
        for c in text.chars() {
            match c {
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                c if c == quote || c == '\\' => self.out.extend(['\\', c]),
                c if c.is_control() => self.out.push_str(&format!("\\x{:02x}", c as u32)),
                c => self.out.push(c),
            }
        }
        self.out.push(quote);
    }

    fn items(&mut self, value: &Value, brackets: [char; 2], depth: usize) -> Result<(), Error> {
        let is_map = brackets[0] == '{';
        self.out.push(brackets[0]);
        for (i, item) in value.try_iter()?.enumerate() {
            self.out.push_str(if i == 0 { "" } else { &self.separators.0 });
            self.new_line(depth + 1);
            match item.as_str() {
                None if is_map && self.json => self.string(&item.to_string()),
                _ => self.value(&item, depth + 1)?,
            }
            if is_map {
                self.out.push_str(&self.separators.1);
                self.value(&value.get_item(&item)?, depth + 1)?;
            }
        }
        if value.is_true() {
            self.new_line(depth); // not in empty ones
        }
        self.out.push(brackets[1]);
        Ok(())
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            _ if depth > MAX_DEPTH => return Err(invalid(format!("a value is nested deeper than {MAX_DEPTH} levels"))),
            ValueKind::None => self.out.push_str(if self.json { "null" } else { "None" }),
            ValueKind::Bool if self.json => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "True" } else { "False" }),
            ValueKind::Number if !value.is_integer() => self.out.push_str(&float_text(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => self.items(value, ['[', ']'], depth)?,
            ValueKind::Map => self.items(value, ['{', '}'], depth)?,
            ValueKind::Number => self.out.push_str(&value.to_string()),
            kind if self.json => return Err(invalid(format!("a value of type {kind} cannot be written as JSON"))),
            _ => self.out.push_str(&value.to_string()),
        }
        Ok(())
    }
}

/// Python's repr(): the shortest digits, with an exponent below 1e-4 and from 1e16.
fn float_text(x: f64) -> String {
    let text = format!("{x:e}");
    match text.split_once('e').and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?))) {
        Some((digits, exponent)) if !(-4..16).contains(&exponent) => {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        _ => format!("{x:?}"),
    }
}

fn write(value: &Value, json: bool, indent: Option<String>, separators: (String, String)) -> Result<String, Error> {
    let mut writer = Writer { out: String::new(), json, indent, separators };
    writer.value(value, 0)?;
    Ok(writer.out)
}

/// Python's str().
fn text_of(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_string()),
        None if value.is_undefined() => Ok(String::new()),
        None => write(value, false, None, (", ".into(), ": ".into())),
    }
}

/// json.dumps with its options, as transformers has it (Jinja's own filter would escape for HTML).
fn tojson(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent = match options.get::<Option<Value>>("indent")?.filter(|v| !v.is_none()) {
        Some(v) if v.as_str().is_none() => Some(" ".repeat(usize::try_from(v)?.min(64))),
        v => v.map(|v| v.to_string()),
    };
    let item = if indent.is_some() { "," } else { ", " };
    let separators = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(invalid("tojson: separators must be a pair of strings")),
        None => (item.into(), ": ".into()),
    };
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(invalid("tojson: ensure_ascii=True is not supported"));
    }
    options.assert_all_used()?;
    write(&value, true, indent, separators)
}

fn strftime_now(clock: Clock, format: String) -> Result<String, Error> {
    let mut text = [0u8; 1024];
    let format = CString::new(format).unwrap_or_default();
    match clock(format.as_ptr(), text.as_mut_ptr().cast(), text.len()) {
        0 => Err(invalid("strftime_now: not a date format")),
        size => Ok(String::from_utf8_lossy(&text[..size]).into_owned()),
    }
}

fn environment(clock: Clock) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(100);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.set_formatter(|out, _, value| out.write_str(&text_of(value)?).map_err(Error::from));
    env.add_filter("tojson", tojson);
    env.add_filter("string", |value: Value| text_of(&value));
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> { Err(invalid(message)) });
    env.add_function("strftime_now", move |format: String| strftime_now(clock, format));
    env
}

fn describe(error: Error) -> String {
    let text = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("takes more than {FUEL} steps"),
        (ErrorKind::WriteFailure, _) => "the output is too long".into(),
        (ErrorKind::InvalidOperation, Some(detail)) => detail.into(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    error.line().map_or(text.clone(), |line| format!("line {line}: {text}"))
}

/// Without variables (an empty `context`) the template is only parsed.
pub fn render(source: &str, context: &[u8], clock: Clock, max: usize) -> Result<Vec<u8>, String> {
    let env = environment(clock);
    let template = env.template_from_named_str("template", source).map_err(describe)?;
    if context.is_empty() {
        return Ok(Vec::new());
    }
    let context: serde_json::Value = serde_json::from_slice(context).map_err(|e| e.to_string())?;
    let mut out = vec![0; max];
    let mut rest = &mut out[..];
    template.render_captured_to(Value::from_serialize(&context), &mut rest).map_err(describe)?;
    let size = max - rest.len();
    out.truncate(size);
    Ok(out)
}
