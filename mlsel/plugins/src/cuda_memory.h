// Memory of a GPU, and errors as exceptions.
#ifndef MLSEL_CUDA_MEMORY_H
#define MLSEL_CUDA_MEMORY_H

#include <cuda_runtime.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

namespace mlsel {

inline void check(cudaError_t code, const char *what)
{
  if (code != cudaSuccess)
    throw std::runtime_error(std::string("the GPU fails to ") + what + ": " +
                             cudaGetErrorString(code));
}

/// Memory of the GPU.
template <typename T> class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(const DeviceBuffer &) = delete;
  DeviceBuffer &operator=(const DeviceBuffer &) = delete;
  DeviceBuffer(DeviceBuffer &&other) noexcept : data_(other.data_), size_(other.size_)
  {
    other.data_ = nullptr;
    other.size_ = 0;
  }
  ~DeviceBuffer()
  {
    if (data_) cudaFree(data_);
  }

  /// Room for n; what it held is lost when it grows.
  void need(size_t n)
  {
    if (n <= size_) return;
    if (size_) n += n / 8;
    if (data_) check(cudaFree(data_), "free memory");
    data_ = nullptr;
    size_ = 0;
    check(cudaMalloc(reinterpret_cast<void **>(&data_), n * sizeof(T)), "give memory");
    size_ = n;
  }
  void fill(const std::vector<T> &values)
  {
    need(std::max<size_t>(1, values.size()));
    upload(values.data(), 0, values.size());
  }
  void upload(const T *from, size_t begin, size_t n)
  {
    if (n)
      check(cudaMemcpyAsync(data_ + begin, from, n * sizeof(T), cudaMemcpyHostToDevice),
            "take numbers");
  }
  void download(T *to, size_t begin, size_t n) const
  {
    if (n)
      check(cudaMemcpy(to, data_ + begin, n * sizeof(T), cudaMemcpyDeviceToHost), "give numbers");
  }
  T *get() const { return data_; }
  size_t size() const { return size_; }

 private:
  T *data_ = nullptr;
  size_t size_ = 0;
};

/// Memory of the host that the GPU writes to without a detour.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  PinnedBuffer(const PinnedBuffer &) = delete;
  PinnedBuffer &operator=(const PinnedBuffer &) = delete;
  ~PinnedBuffer()
  {
    if (data_) cudaFreeHost(data_);
  }
  void need(size_t n)
  {
    if (n <= size_) return;
    n += n / 8;
    if (data_) check(cudaFreeHost(data_), "free memory");
    data_ = nullptr;
    size_ = 0;
    check(cudaMallocHost(reinterpret_cast<void **>(&data_), n * sizeof(double)), "give memory");
    size_ = n;
  }
  double *get() const { return data_; }

 private:
  double *data_ = nullptr;
  size_t size_ = 0;
};

}    // namespace mlsel
#endif
