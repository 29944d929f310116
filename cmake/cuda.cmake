# SPDX-License-Identifier: Apache-2.0
# CUDA without CMake's own CUDA language: 3.25 knows dialects up to 17, and a toolkit made of PyPI wheels is not one it
# finds. comet_cuda_objects(variable source...) compiles .cu files: *_sm80* as code for Ampere and Ada and compute_80 PTX
# for all that is newer, all others for Hopper's own instructions. Each runs through cmake/nvcc_checked.sh, which fails
# on what must not happen silently.
set(cache $ENV{XDG_CACHE_HOME})
if(NOT cache)
  set(cache $ENV{HOME}/.cache)
endif()

# The first nvcc 13.0 of: PATH, CUDA_HOME, the wheels of tools/setup --cuda, the usual places. PTX of a newer one is
# refused by current drivers.
set(COMET_NVCC "" CACHE FILEPATH "nvcc 13.0; looked for when empty")
find_program(nvcc_on_path nvcc NO_CACHE)
foreach(nvcc ${COMET_NVCC} ${nvcc_on_path} $ENV{CUDA_HOME}/bin/nvcc ${cache}/comet/cuda-13.0/bin/nvcc
             /usr/local/cuda-13.0/bin/nvcc /usr/local/cuda/bin/nvcc)
  if(EXISTS ${nvcc})
    execute_process(COMMAND ${nvcc} --version OUTPUT_VARIABLE nvcc_text)
    if(nvcc_text MATCHES "release 13\\.0")
      set(COMET_NVCC ${nvcc} CACHE FILEPATH "nvcc 13.0" FORCE)
      break()
    endif()
    list(APPEND nvcc_refused ${nvcc})
  endif()
endforeach()
if(NOT nvcc_text MATCHES "release 13\\.0")
  message(FATAL_ERROR "COMET_CUDA needs nvcc 13.0: tools/setup --cuda gets it (of another version: ${nvcc_refused})")
endif()
cmake_path(GET COMET_NVCC PARENT_PATH COMET_CUDA_ROOT)
cmake_path(GET COMET_CUDA_ROOT PARENT_PATH COMET_CUDA_ROOT)

find_library(COMET_CUDART cudart_static HINTS ${COMET_CUDA_ROOT}/lib64 ${COMET_CUDA_ROOT}/lib REQUIRED)
add_library(comet_cudart INTERFACE)
target_include_directories(comet_cudart SYSTEM INTERFACE ${COMET_CUDA_ROOT}/include)
target_link_libraries(comet_cudart INTERFACE ${COMET_CUDART} Threads::Threads ${CMAKE_DL_LIBS} rt)

set(COMET_NVCC_FLAGS -std=c++20 -O3 --fmad=false --expt-relaxed-constexpr -lineinfo -Xptxas -v
    -Xcompiler=-fPIC,-ffp-contract=off,-Wall,-Wno-unused-parameter -I${CMAKE_SOURCE_DIR}/src -I${CMAKE_SOURCE_DIR})
option(COMET_CUDA_SLEEPS "Kernels sleep at random before waits and arrivals (to test them, never to use them)" OFF)
option(COMET_CUDA_RACECHECK "Kernels in a form that compute-sanitizer's racecheck can follow (never to use them)" OFF)
if(COMET_CUDA_RACECHECK)
  list(APPEND COMET_NVCC_FLAGS -DCOMET_CUDA_RACECHECK)
endif()
if(COMET_CUDA_SLEEPS)
  list(APPEND COMET_NVCC_FLAGS -DCOMET_CUDA_SLEEPS)
endif()
set(COMET_ARCH_sm90 -gencode arch=compute_90a,code=sm_90a)
set(COMET_ARCH_sm80 -gencode arch=compute_80,code=[sm_80,sm_86,sm_89,compute_80])

function(comet_cuda_objects variable)
  set(objects)
  foreach(source ${ARGN})
    cmake_path(GET source STEM name)
    set(arch ${COMET_ARCH_sm90})
    if(name MATCHES "_sm80")
      set(arch ${COMET_ARCH_sm80})
    endif()
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}.cu.o)
    add_custom_command(
      OUTPUT ${object}
      COMMAND bash ${CMAKE_SOURCE_DIR}/cmake/nvcc_checked.sh ${CMAKE_CXX_COMPILER_LAUNCHER} ${COMET_NVCC}
              ${COMET_NVCC_FLAGS} ${arch} -MD -MF ${object}.d -c ${CMAKE_CURRENT_SOURCE_DIR}/${source} -o ${object}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${source} ${CMAKE_SOURCE_DIR}/cmake/nvcc_checked.sh
      DEPFILE ${object}.d
      COMMENT "nvcc ${source}" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  set(${variable} ${objects} PARENT_SCOPE)
endfunction()
