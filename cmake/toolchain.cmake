# SPDX-License-Identifier: Apache-2.0
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O3")   # no -DNDEBUG: our checks are part of the program

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()

# Flags of our own code; third-party headers come in as SYSTEM.
add_library(comet_flags INTERFACE)
target_compile_features(comet_flags INTERFACE cxx_std_20)
# The number contract names every fma: the compiler must not add one, nor reorder.
target_compile_options(comet_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off -fno-fast-math -Wall -Wextra -Wshadow -Wno-unused-parameter>
  # g++ 12 at -O3 sees overflows in fmt's header-only formatting that are not there.
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-stringop-overflow -Wno-array-bounds>
  $<$<AND:$<BOOL:${COMET_WERROR}>,$<COMPILE_LANGUAGE:CXX>>:-Werror>)
target_compile_definitions(comet_flags INTERFACE FMT_HEADER_ONLY=1)
target_include_directories(comet_flags INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
if(COMET_SANITIZE)
  target_compile_options(comet_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${COMET_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=undefined>)
  target_link_options(comet_flags INTERFACE -fsanitize=${COMET_SANITIZE})
endif()

find_package(Threads REQUIRED)
target_link_libraries(comet_flags INTERFACE Threads::Threads)
