// Maps of tensors, by which the copy engine finds boxes.
#include "bulk.cuh"

#include <cuda_runtime.h>

namespace cistron::cuda {

namespace {

using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*,
                            const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                            const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                            CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// The driver's function, found at run time: the library is not linked.
Encode encoder() {
  static const Encode found = [] {
    int device = 0, major = 0;
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
        major < 9 ||
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                         cudaEnableDefault, &result) != cudaSuccess ||
        result != cudaDriverEntryPointSuccess) {
      cudaGetLastError();  // or the next launch would seem to have failed
      return Encode(nullptr);
    }
    return reinterpret_cast<Encode>(function);
  }();
  return found;
}

}  // namespace

bool tensor_map(CUtensorMap& map, bool single, const void* data, int rank, const uint64_t* sizes,
                const uint64_t* strides, const uint32_t* box, bool swizzle) {
  const uint32_t steps[5] = {1, 1, 1, 1, 1};
  cuuint64_t dims[5], bytes[5];
  // What the driver would refuse is not asked for: tools report refused calls as errors.
  bool fits = reinterpret_cast<uintptr_t>(data) % 16 == 0;
  for (int i = 0; i < rank; ++i) {
    dims[i] = sizes[i];
    fits = fits && sizes[i] > 0 && sizes[i] < uint64_t{1} << 32;
  }
  for (int i = 0; i + 1 < rank; ++i) {
    bytes[i] = strides[i];
    fits = fits && strides[i] > 0 && strides[i] % 16 == 0 && strides[i] < uint64_t{1} << 40;
  }
  return fits && encoder() != nullptr &&
         encoder()(&map, single ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                   rank, const_cast<void*>(data), dims, bytes, box, steps,
                   CU_TENSOR_MAP_INTERLEAVE_NONE,
                   swizzle ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                   CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace cistron::cuda
