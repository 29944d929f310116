# SPDX-License-Identifier: Apache-2.0
# A source file named *_<isa>.cc is built for that ISA, and only such files are.
# -Wuninitialized: g++ 12 warns inside its own AVX-512 headers.
set(COMET_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c -mbmi2)
set(COMET_ISA_FLAGS_avx512vnni -mavx2 -mfma -mf16c -mbmi2 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
    -mprefer-vector-width=512)
set(COMET_ISA_FLAGS_amx ${COMET_ISA_FLAGS_avx512vnni} -mamx-tile -mamx-int8)

function(comet_apply_isa_flags)
  foreach(source ${ARGN})
    if(source MATCHES "_(avx2|avx512vnni|amx)\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
        "${COMET_ISA_FLAGS_${CMAKE_MATCH_1}};-Wno-uninitialized;$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>")
    endif()
  endforeach()
endfunction()
