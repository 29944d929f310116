// SPDX-License-Identifier: Apache-2.0
//! The functions of ../comet_text.h, which says what callers must give them: valid pointers, and buffers of its functions.
#![allow(clippy::missing_safety_doc)]

mod limits;
mod template;
mod tokenizer;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use template::Clock;
use tokenizers::Tokenizer;

#[global_allocator]
static ALLOCATOR: limits::LimitedAllocator = limits::LimitedAllocator;

#[repr(C)]
pub struct View {
    data: *const u8,
    size: usize,
}

#[repr(C)]
pub struct Buffer {
    data: *mut u8,
    size: usize,
}

type Handle = *const Tokenizer;

unsafe fn share(handle: Handle) -> Arc<Tokenizer> {
    Arc::increment_strong_count(handle);
    Arc::from_raw(handle)
}

impl View {
    /// # Safety
    /// data points to size bytes, or size is 0.
    unsafe fn bytes(&self) -> Vec<u8> {
        let bytes = if self.size == 0 { &[] } else { std::slice::from_raw_parts(self.data, self.size) };
        bytes.to_vec()
    }
}

/// Stores what `work` returns, or why it failed, and gives 0 or 1.
unsafe fn answer(out: *mut Buffer, work: impl FnOnce() -> Result<Vec<u8>, String>) -> i32 {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(limits::panic_text(&*panic)));
    let status = i32::from(result.is_err());
    let bytes = result.unwrap_or_else(String::into_bytes).into_boxed_slice();
    out.write(Buffer { size: bytes.len(), data: Box::into_raw(bytes).cast() });
    status
}

/// Runs work on `size` bytes of input, each allowed to take `per_byte` bytes of memory: several times what honest files,
/// texts and templates take.
fn run<T: Send + 'static, F>(size: usize, per_byte: usize, work: F) -> Result<T, String>
where
    F: FnOnce() -> Result<T, String> + Send + 'static,
{
    limits::run((128 << 20) + size * per_byte, Duration::from_secs(20 + 20 * (size >> 20) as u64), work)
}

#[no_mangle]
pub unsafe extern "C" fn comet_text_create(json: View, added: View, tokenizer: *mut Handle, out: *mut Buffer) -> i32 {
    answer(out, || {
        let (json, added) = (json.bytes(), added.bytes());
        let (created, table) = run(json.len(), 100, move || tokenizer::create(&json, &added))?;
        tokenizer.write(Arc::into_raw(Arc::new(created)));
        Ok(table)
    })
}

#[no_mangle]
pub unsafe extern "C" fn comet_text_destroy(tokenizer: Handle) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(Arc::from_raw(tokenizer))));
}

#[no_mangle]
pub unsafe extern "C" fn comet_text_encode(handle: Handle, text: View, special: bool, out: *mut Buffer) -> i32 {
    answer(out, || {
        let (tokenizer, text) = (share(handle), text.bytes());
        run(text.len(), 1000, move || tokenizer::encode(&tokenizer, &text, special))
    })
}

#[no_mangle]
pub unsafe extern "C" fn comet_text_decode(handle: Handle, ids: View, skip: bool, out: *mut Buffer) -> i32 {
    answer(out, || {
        let (tokenizer, ids) = (share(handle), ids.bytes());
        run(ids.len(), 200, move || tokenizer::decode(&tokenizer, &ids, skip))
    })
}

#[no_mangle]
pub unsafe extern "C" fn comet_text_render(
    source: View,
    context: View,
    clock: Clock,
    max: usize,
    out: *mut Buffer,
) -> i32 {
    answer(out, || {
        let (source, context) = (source.bytes(), context.bytes());
        run(context.len(), 100, move || template::render(&String::from_utf8_lossy(&source), &context, clock, max))
    })
}

#[no_mangle]
pub unsafe extern "C" fn comet_text_free(buffer: Buffer) {
    let slice = std::ptr::slice_from_raw_parts_mut(buffer.data, buffer.size);
    let _ = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(slice))));
}
