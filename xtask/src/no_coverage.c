// Weak, empty definitions of what coverage instrumentation calls, for executables that no fuzzing engine is linked into.
//
// A fuzz run instruments a whole package: its unit tests and programs too, which do not link the engine. Where the
// engine is linked, its own (strong) definitions win.
#include <stdint.h>

#define WEAK __attribute__((weak))

WEAK __thread uintptr_t __sancov_lowest_stack;
WEAK void __sanitizer_cov_8bit_counters_init(uint8_t *begin, uint8_t *end) {}
WEAK void __sanitizer_cov_pcs_init(const uintptr_t *begin, const uintptr_t *end) {}
WEAK void __sanitizer_cov_trace_pc_indir(uintptr_t callee) {}
WEAK void __sanitizer_cov_trace_cmp1(uint8_t a, uint8_t b) {}
WEAK void __sanitizer_cov_trace_cmp2(uint16_t a, uint16_t b) {}
WEAK void __sanitizer_cov_trace_cmp4(uint32_t a, uint32_t b) {}
WEAK void __sanitizer_cov_trace_cmp8(uint64_t a, uint64_t b) {}
WEAK void __sanitizer_cov_trace_const_cmp1(uint8_t a, uint8_t b) {}
WEAK void __sanitizer_cov_trace_const_cmp2(uint16_t a, uint16_t b) {}
WEAK void __sanitizer_cov_trace_const_cmp4(uint32_t a, uint32_t b) {}
WEAK void __sanitizer_cov_trace_const_cmp8(uint64_t a, uint64_t b) {}
WEAK void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases) {}
WEAK void __sanitizer_cov_trace_div4(uint32_t value) {}
WEAK void __sanitizer_cov_trace_div8(uint64_t value) {}
WEAK void __sanitizer_cov_trace_gep(uintptr_t idx) {}
