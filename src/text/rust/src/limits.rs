// SPDX-License-Identifier: Apache-2.0
//! Runs work on untrusted input with limited memory, time and stack.
//!
//! Rust can neither fail an allocation without ending the process nor stop a thread from outside. So the work gets a thread,
//! and the allocator puts that thread to sleep for good where its allowance ends: nothing unwinds, nothing is freed, the
//! caller gets an error. Each time costs the allowance, so there is a limit on that too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

const THREAD_NAME: &str = "comet-text";
/// Virtual until touched; see template::FUEL.
const STACK_BYTES: usize = 512 << 20;
const MAX_ABANDONED: usize = 16;
static ABANDONED: AtomicUsize = AtomicUsize::new(0);

const RUNNING: u8 = 0;
const FINISHED: u8 = 1;
const OUT_OF_MEMORY: u8 = 2;

struct Watch {
    status: AtomicU8,
    cancelled: AtomicBool,
    caller: Thread,
}

impl Watch {
    fn tell(&self, status: u8) {
        self.status.store(status, Ordering::Release);
        self.caller.unpark();
    }
}

thread_local! {
    static WATCH: Cell<*const Watch> = const { Cell::new(null()) };  // set while the thread runs limited work
    static BYTES_LEFT: Cell<isize> = const { Cell::new(0) };
}

pub struct LimitedAllocator;

/// Takes `bytes` from the thread's allowance; negative: gives them back.
fn charge(bytes: isize) {
    let watch = WATCH.get();
    if watch.is_null() {
        return;
    }
    BYTES_LEFT.set(BYTES_LEFT.get() - bytes);
    // SAFETY: Metered keeps the Watch alive for as long as the pointer is set.
    let watch = unsafe { &*watch };
    if bytes > 0 && (BYTES_LEFT.get() < 0 || watch.cancelled.load(Ordering::Relaxed)) {
        watch.tell(OUT_OF_MEMORY);
        loop {
            thread::sleep(Duration::from_secs(1 << 30));
        }
    }
}

// SAFETY: everything is handed to System; `charge` neither allocates nor unwinds.
unsafe impl GlobalAlloc for LimitedAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        charge(layout.size() as isize);
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        charge(layout.size() as isize);
        System.alloc_zeroed(layout)
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        charge(size as isize - layout.size() as isize);
        System.realloc(pointer, layout, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        charge(-(layout.size() as isize));
        System.dealloc(pointer, layout)
    }
}

/// The current thread's allocations count while this lives.
struct Metered(Arc<Watch>);

impl Drop for Metered {
    fn drop(&mut self) {
        WATCH.set(null());
        self.0.tell(FINISHED);
    }
}

/// What `work` returns; an error where it panics, or takes more than `memory` bytes or `time`.
pub fn run<T: Send + 'static>(
    memory: usize,
    time: Duration,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    static SILENCE_OUR_PANICS: Once = Once::new();
    SILENCE_OUR_PANICS.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(THREAD_NAME) {
                print(info)
            }
        }));
    });
    if ABANDONED.load(Ordering::Relaxed) >= MAX_ABANDONED {
        return Err(format!("refused, since {MAX_ABANDONED} calls went past their limits before"));
    }

    let deadline = Instant::now() + time;
    let (status, cancelled) = (AtomicU8::new(RUNNING), AtomicBool::new(false));
    let watch = Arc::new(Watch { status, cancelled, caller: thread::current() });
    let metered = Metered(watch.clone());
    let thread = thread::Builder::new().name(THREAD_NAME.into()).stack_size(STACK_BYTES).spawn(move || {
        BYTES_LEFT.set(memory as isize);
        WATCH.set(Arc::as_ptr(&metered.0));
        let result = work();
        drop(metered);
        result
    });
    let thread = thread.map_err(|e| format!("cannot start a thread: {e}"))?;
    loop {
        let now = Instant::now();
        match watch.status.load(Ordering::Acquire) {
            FINISHED => return thread.join().unwrap_or_else(|panic| Err(panic_text(&*panic))),
            RUNNING if now < deadline => thread::park_timeout(deadline - now),
            status => {
                watch.cancelled.store(true, Ordering::Relaxed);
                ABANDONED.fetch_add(1, Ordering::Relaxed);
                let limit =
                    if status == RUNNING { format!("{} s", time.as_secs()) } else { format!("{} MB", memory >> 20) };
                return Err(format!("takes more than {limit}"));
            }
        }
    }
}

pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("internal error: {}", text.unwrap_or("panic"))
}
