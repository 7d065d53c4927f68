// A stand-in for libtorch_cuda.so. It registers what libtorch asks about CUDA, as the real one does, and computes
// nothing. STUB_LOADED names a file that it writes when it is loaded; STUB_DEVICES is how many devices it counts.

#include <ATen/detail/CUDAHooksInterface.h>

#include <cstdlib>
#include <fstream>

namespace at {

// The registry's key is the name of the class.
struct CUDAHooks : CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}

  bool hasCUDA() const override {
    return true;
  }

  DeviceIndex deviceCount() const override {
    const char* devices = std::getenv("STUB_DEVICES");
    return devices ? static_cast<DeviceIndex>(std::atoi(devices)) : 0;
  }
};

REGISTER_CUDA_HOOKS(CUDAHooks)

} // namespace at

namespace {

const bool loaded = [] {
  if (const char* marker = std::getenv("STUB_LOADED")) {
    std::ofstream(marker) << "loaded\n";
  }
  return true;
}();

} // namespace
