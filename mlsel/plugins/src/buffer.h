// Memory that begins on a cache line's border.
#ifndef MLSEL_BUFFER_H
#define MLSEL_BUFFER_H

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>

namespace mlsel {

/// Grows, and is zero when it has grown; what it held is lost then.
template <typename Real> class Buffer {
 public:
  /// Room for n numbers.
  Real *need(size_t n)
  {
    if (n > size_) {
      if (size_) n += n / 8;    // it grows by a few, again and again
      n = (n + IN_LINE - 1) / IN_LINE * IN_LINE;
      numbers_.reset(static_cast<Real *>(::operator new(n * sizeof(Real), LINE)));
      size_ = n;
      std::fill_n(numbers_.get(), n, Real(0));
    }
    return numbers_.get();
  }
  Real *get() const { return numbers_.get(); }
  size_t size() const { return size_; }

 private:
  static constexpr std::align_val_t LINE{64};
  static constexpr size_t IN_LINE = 64 / sizeof(Real);
  struct Free {
    void operator()(Real *numbers) const { ::operator delete(numbers, LINE); }
  };
  std::unique_ptr<Real, Free> numbers_;
  size_t size_ = 0;
};

}    // namespace mlsel
#endif
