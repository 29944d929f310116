# SPDX-License-Identifier: Apache-2.0
# CUDA without CMake's own CUDA language: 3.25 knows dialects up to 17, and a toolkit made of PyPI wheels is not one it
# finds. comet_cuda_objects(variable source...) compiles .cu files: *_sm80* as sm_80 code and compute_80 PTX, all others
# for Hopper's own instructions. Each runs through cmake/nvcc_checked.sh, which fails on what must not happen silently.
find_program(COMET_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin $ENV{HOME}/.cache/comet/cuda-13.0/bin /usr/local/cuda-13.0/bin
             /usr/local/cuda/bin REQUIRED)
execute_process(COMMAND ${COMET_NVCC} --version OUTPUT_VARIABLE nvcc_text COMMAND_ERROR_IS_FATAL ANY)
if(NOT nvcc_text MATCHES "release 13\\.0")
  message(FATAL_ERROR "${COMET_NVCC} is not nvcc 13.0; PTX of a newer one is refused by current drivers")
endif()
cmake_path(GET COMET_NVCC PARENT_PATH COMET_CUDA_ROOT)
cmake_path(GET COMET_CUDA_ROOT PARENT_PATH COMET_CUDA_ROOT)

find_library(COMET_CUDART cudart_static HINTS ${COMET_CUDA_ROOT}/lib64 ${COMET_CUDA_ROOT}/lib REQUIRED)
add_library(comet_cudart INTERFACE)
target_include_directories(comet_cudart SYSTEM INTERFACE ${COMET_CUDA_ROOT}/include)
target_link_libraries(comet_cudart INTERFACE ${COMET_CUDART} Threads::Threads ${CMAKE_DL_LIBS} rt)

set(COMET_NVCC_FLAGS -std=c++20 -O3 --fmad=false --expt-relaxed-constexpr -lineinfo -Xptxas -v
    -Xcompiler=-fPIC,-ffp-contract=off,-Wall,-Wno-unused-parameter -I${CMAKE_SOURCE_DIR}/src -I${CMAKE_SOURCE_DIR})
set(COMET_ARCH_sm90 -gencode arch=compute_90a,code=sm_90a)
set(COMET_ARCH_sm80 -gencode arch=compute_80,code=sm_80 -gencode arch=compute_80,code=compute_80)

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
