// The compressed mode on a GPU: libmlsel_cuda.so, built where nvcc is.

#include "schnet_cuda.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda_memory.h"
#include "schnet_cuda_kernels.h"
#include "schnet_parts.h"
#include "spline.h"

namespace mlsel {
namespace {

/// A linear layer y = x A + b, A row by row as n_in × n_out, and its transpose.
template <typename Real> struct Linear {
  int n_in = 0, n_out = 0;
  DeviceBuffer<Real> matrix, transposed, bias;

  Linear(const std::vector<double> &weight, int n_in_, const std::vector<double> *b)
      : n_in(n_in_), n_out(static_cast<int>(weight.size()) / n_in_)
  {
    std::vector<Real> forward(weight.size()), back(weight.begin(), weight.end());
    for (int out = 0; out < n_out; out++)
      for (int in = 0; in < n_in; in++)
        forward[static_cast<size_t>(in) * n_out + out] =
            back[static_cast<size_t>(out) * n_in + in];
    matrix.fill(forward);
    transposed.fill(back);
    if (b) bias.fill(std::vector<Real>(b->begin(), b->end()));
  }
};

template <typename Real> Matrix<Real> forwards(const Linear<Real> &layer)
{
  return {layer.matrix.get(), layer.bias.get(), layer.n_in, layer.n_out};
}
template <typename Real> Matrix<Real> backwards(const Linear<Real> &layer)
{
  return {layer.transposed.get(), nullptr, layer.n_out, layer.n_in};
}

template <typename Real> class CudaModel : public CompressedModel {
 public:
  CudaModel(const ModelFile &file, int device)
      : device_(device), cutoff_(file.cutoff), n_layers_(file.compressed.n_layers),
        n_basis_(file.compressed.n_atom_basis), n_filters_(file.compressed.n_filters),
        width_((n_filters_ + WARP - 1) / WARP * WARP), n_knots_(file.compressed.n_knots),
        inner_(activation(file.compressed.activation))
  {
    check(cudaSetDevice(device_), "be chosen");
    const Compressed &from = file.compressed;
    for (int k = 0; k < n_layers_; k++) {
      const std::string layer = "layer" + std::to_string(k) + '/';
      in2f_.emplace_back(from.array(layer + "in2f"), n_basis_, nullptr);
      f2out0_.emplace_back(from.array(layer + "f2out0/weight"), n_filters_,
                           &from.array(layer + "f2out0/bias"));
      f2out1_.emplace_back(from.array(layer + "f2out1/weight"), n_basis_,
                           &from.array(layer + "f2out1/bias"));
      tables_.emplace_back();
      tables_.back().fill(table(from.array(layer + "table")));
    }
    int widest = std::max(n_basis_, n_filters_);
    if (from.readout.size() > MAX_READOUT)
      throw std::runtime_error("the GPU's compressed mode knows output networks of up to " +
                               std::to_string(MAX_READOUT) + " layers, this one has " +
                               std::to_string(from.readout.size()));
    const size_t n_networks = from.n_networks(file.numbers.size());
    for (size_t s = 0; s < n_networks; s++) {
      int n_in = n_basis_;
      readout_.emplace_back();
      for (size_t k = 0; k < from.readout.size(); k++) {
        const std::string layer = from.network(s) + "readout" + std::to_string(k) + '/';
        readout_[s].emplace_back(from.array(layer + "weight"), n_in, &from.array(layer + "bias"));
        n_in = from.readout[k];
        widest = std::max(widest, n_in);
      }
      Readout<Real> &network = networks_.emplace_back();
      network.n_layers = static_cast<int>(from.readout.size());
      network.element = static_cast<int>(s);
      network.n_elements = static_cast<int>(n_networks);
      network.activation = activation(from.readout_activation);
      for (size_t k = 0; k < from.readout.size(); k++) {
        network.forwards[k] = forwards(readout_[s][k]);
        network.backwards[k] = backwards(readout_[s][k]);
      }
    }
    stride_ = widest;
    rows_in_block_ = 8;
    while (rows_in_block_ > 1 && shared_bytes() > SHARED) rows_in_block_ /= 2;
    most_rows_ = rows_in_block_;
    if (shared_bytes() > SHARED)
      throw std::runtime_error("the model's layers are too wide for the GPU's compressed mode");

    const auto n_species = file.numbers.size();
    const std::vector<double> &embedding = from.array("embedding");
    const std::vector<double> &in2f = from.array("layer0/in2f");
    embedding_.fill(std::vector<Real>(embedding.begin(), embedding.end()));
    offsets_.fill(file.energy_offsets);
    // before the first layer an atom's features depend on its species alone
    first_y_.assign(n_species * width_, Real(0));
    for (size_t s = 0; s < n_species; s++)
      for (int f = 0; f < n_filters_; f++) {
        double sum = 0.0;
        for (int k = 0; k < n_basis_; k++)
          sum += embedding[s * n_basis_ + k] * in2f[static_cast<size_t>(f) * n_basis_ + k];
        first_y_[s * width_ + f] = static_cast<Real>(sum);
      }
    y_.resize(n_layers_);
    slopes_.resize(n_layers_);
    overlap_.need(1);
    check(cudaMemset(overlap_.get(), 0, sizeof(int)), "clear memory");
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, device_), "tell its name");
    n_processors_ = properties.multiProcessorCount;
    name_ = "cuda:" + std::to_string(device_) + " (" + properties.name + ')';
  }

  void set_graph(const Graph &graph) override
  {
    check(cudaSetDevice(device_), "be chosen");
    n_local_ = graph.n_local;
    n_rows_ = graph.n_rows;
    fill_candidates(graph);
    const size_t n_local = std::max(1, n_local_), n_rows = std::max(1, n_rows_);
    species_.fill(std::vector<int>(graph.species, graph.species + n_rows_));
    x_.need(n_local * n_basis_);
    gradient_.need(n_local * n_basis_);
    message_.need(n_local * width_);
    message_gradient_.need(n_local * width_);
    y_gradient_.need(n_rows * width_);
    strip_sums_.need(n_rows * SUMS * (width_ / WARP));
    n_out_ = TOTALS + static_cast<size_t>(n_local_) + static_cast<size_t>(n_rows_) * SUMS;
    out_.need(n_out_);
    host_out_.need(n_out_);
    // enough blocks for every processor of the GPU
    rows_in_block_ = most_rows_;
    while (rows_in_block_ > 2 && n_local_ / rows_in_block_ < 2 * n_processors_) rows_in_block_ /= 2;
    for (int k = 0; k < n_layers_; k++) {
      y_[k].need(n_rows * width_);
      slopes_[k].need(n_local * n_basis_);
      if (k > 0)    // the padding stays zero
        check(cudaMemset(y_[k].get(), 0, n_rows * width_ * sizeof(Real)), "clear memory");
    }
    check(cudaMemset(message_gradient_.get(), 0, n_local * width_ * sizeof(Real)), "clear memory");
    std::vector<Real> first(n_rows * width_, Real(0));
    for (int row = 0; row < n_rows_; row++)
      if (graph.species[row] >= 0)
        std::copy_n(first_y_.begin() + static_cast<long>(graph.species[row]) * width_, width_,
                    first.begin() + static_cast<long>(row) * width_);
    y_[0].fill(first);
  }

  void compute(const double *x, Exchange *exchange, std::span<Result> results) override
  {
    Result &result = results.front();    // of the only file
    check(cudaSetDevice(device_), "be chosen");
    std::fill(result.virial, result.virial + 6, 0.0);
    result.n_pairs = 0;
    if (n_atoms_) positions_.upload(x, 0, 3 * n_atoms_);
    if (n_rows_)
      find_pairs<Real><<<blocks(n_rows_, WARPS), THREADS>>>(
          pairs(), positions_.get(), cutoff_ * cutoff_, (n_knots_ - 1) / cutoff_, n_knots_,
          overlap_.get());
    dense<8>(exchange);
    collect(result);
  }

  double memory_usage() const override
  {
    return static_cast<double>(n_out_ * sizeof(double) +
                               (first_y_.size() + host_.size()) * sizeof(Real));
  }
  const char *kernel() const override { return name_.c_str(); }

 private:
  static constexpr bool is_double = sizeof(Real) == sizeof(double);
  static constexpr size_t SHARED = 48 * 1024;    // what every GPU gives a block

  static unsigned blocks(long n, int each) { return static_cast<unsigned>((n + each - 1) / each); }
  size_t shared_bytes() const
  {
    return sizeof(Real) * rows_in_block_ * stride_ * (2 + std::max<size_t>(1, readout_.front().size()));
  }

  std::vector<Real> table(const std::vector<double> &knots) const
  {
    const std::vector<double> coefficients =
        spline_coefficients(knots, n_knots_, n_filters_, cutoff_ / (n_knots_ - 1));
    std::vector<Real> table(static_cast<size_t>(n_knots_ + 4) * width_, Real(0));
    for (int row = 0; row < n_knots_ + 4; row++)
      for (int f = 0; f < n_filters_; f++)
        table[static_cast<size_t>(row) * width_ + f] =
            static_cast<Real>(coefficients[static_cast<size_t>(row) * n_filters_ + f]);
    return table;
  }

  /// The half list of own atoms as lists of all rows.
  void fill_candidates(const Graph &graph)
  {
    std::vector<int> first(static_cast<size_t>(n_rows_) + 1, 0);
    const int n = n_local_ ? graph.first[n_local_] : 0;
    for (int i = 0; i < n_local_; i++) {
      first[i + 1] += graph.first[i + 1] - graph.first[i];
      for (int c = graph.first[i]; c < graph.first[i + 1]; c++) first[graph.sender_row[c] + 1]++;
    }
    for (int row = 0; row < n_rows_; row++) first[row + 1] += first[row];
    std::vector<int> next(first.begin(), first.end() - 1);
    std::vector<int> partner(2 * static_cast<size_t>(n)), from(partner.size()), to(partner.size());
    n_atoms_ = n_local_;
    const auto put = [&](int row, int other, int a, int b) {
      const int at = next[row]++;
      partner[at] = other;
      from[at] = a;
      to[at] = b;
    };
    for (int i = 0; i < n_local_; i++)
      for (int c = graph.first[i]; c < graph.first[i + 1]; c++) {
        put(i, graph.sender_row[c], i, graph.sender_atom[c]);
        put(graph.sender_row[c], i, graph.sender_atom[c], i);
        n_atoms_ = std::max<size_t>(n_atoms_, static_cast<size_t>(graph.sender_atom[c]) + 1);
      }
    first_.fill(first);
    partner_.fill(partner);
    from_.fill(from);
    to_.fill(to);
    const size_t room = std::max<size_t>(1, partner.size());
    n_pairs_.need(std::max(1, n_rows_));
    pairs_.need(room);
    directions_.need(room);
    positions_.need(3 * std::max<size_t>(1, n_atoms_));
  }

  Pairs<Real> pairs() const
  {
    return {n_local_,  n_rows_,        first_.get(), partner_.get(),   from_.get(),
            to_.get(), n_pairs_.get(), pairs_.get(), directions_.get()};
  }
  Rows<Real> rows() const
  {
    return {n_local_, n_basis_, n_filters_, width_, stride_, species_.get(), x_.get(),
            gradient_.get()};
  }

  /// All layers, with as many rows in a block as its shared memory holds.
  template <int ROWS> void dense(Exchange *exchange)
  {
    if constexpr (ROWS > 1) {
      if (ROWS > rows_in_block_) {
        dense<ROWS / 2>(exchange);
        return;
      }
    }
    const unsigned grid = blocks(n_local_, ROWS);
    const size_t shared = shared_bytes();
    const int strips = width_ / WARP;
    for (int k = 0; k < n_layers_; k++) {
      const bool last = k == n_layers_ - 1;
      if (n_local_) {
        messages<Real><<<blocks(static_cast<long>(n_local_) * strips, WARPS), THREADS>>>(
            pairs(), tables_[k].get(), y_[k].get(), width_, message_.get());
        update<ROWS, Real><<<grid, THREADS, shared>>>(
            rows(), message_.get(), forwards(f2out0_[k]), forwards(f2out1_[k]), inner_,
            slopes_[k].get(), k == 0 ? embedding_.get() : nullptr,
            last ? Matrix<Real>{} : forwards(in2f_[k + 1]), last ? nullptr : y_[k + 1].get());
      }
      if (!last && exchange) send(y_[k + 1], *exchange);
    }
    const int top = n_layers_ - 1;
    if (n_local_)
      for (const Readout<Real> &network : networks_)
        read_out<ROWS, Real><<<grid, THREADS, shared>>>(
            rows(), network, offsets_.get(), energies(), backwards(f2out1_[top]),
            backwards(f2out0_[top]), slopes_[top].get(), message_gradient_.get());
    for (int k = top; k >= 0; k--) {
      if (n_rows_)
        gather_back<Real><<<blocks(static_cast<long>(n_rows_) * strips, WARPS), THREADS>>>(
            pairs(), tables_[k].get(), y_[k].get(), message_gradient_.get(), width_,
            k > 0 ? y_gradient_.get() : nullptr, strip_sums_.get(), k == top);
      if (k == 0) break;
      const Real *foreign = exchange ? receive_from(*exchange) : nullptr;
      if (n_local_)
        receive<ROWS, Real><<<grid, THREADS, shared>>>(
            rows(), y_gradient_.get(), foreign, backwards(in2f_[k]), backwards(f2out1_[k - 1]),
            backwards(f2out0_[k - 1]), slopes_[k - 1].get(), message_gradient_.get());
    }
  }

  /// Other processes' rows of what a layer sends.
  void send(DeviceBuffer<Real> &y, Exchange &exchange)
  {
    const size_t own = static_cast<size_t>(n_local_) * width_;
    const size_t all = static_cast<size_t>(n_rows_) * width_;
    host_.resize(all);
    y.download(host_.data(), 0, own);
    exchange.forward(host_.data(), width_, is_double);
    y.upload(host_.data() + own, own, all - own);
    check(cudaDeviceSynchronize(), "take other processes' rows");    // host_ is used again
  }

  /// What other processes' energies feel of own rows.
  const Real *receive_from(Exchange &exchange)
  {
    const size_t own = static_cast<size_t>(n_local_) * width_;
    const size_t all = static_cast<size_t>(n_rows_) * width_;
    host_.resize(all);
    std::fill(host_.begin(), host_.begin() + static_cast<long>(own), Real(0));
    y_gradient_.download(host_.data() + own, own, all - own);
    exchange.reverse(host_.data(), width_, is_double);
    foreign_.need(std::max<size_t>(1, own));
    foreign_.upload(host_.data(), 0, own);
    check(cudaDeviceSynchronize(), "take other processes' gradients");
    return foreign_.get();
  }

  void collect(Result &result)
  {
    if (!n_rows_) return;
    fold<<<blocks(static_cast<long>(n_rows_) * SUMS, THREADS), THREADS>>>(
        n_rows_, width_ / WARP, strip_sums_.get(), sums());
    add_virials<<<1, THREADS>>>(n_rows_, sums(), n_pairs_.get(), overlap_.get(), out_.get());
    check(cudaGetLastError(), "start its kernels");
    out_.download(host_out_.get(), 0, n_out_);
    const double *totals = host_out_.get(), *energies = totals + TOTALS;
    const double *sums = energies + n_local_;
    if (totals[7] != 0.0) throw std::runtime_error("two atoms are at the same place");
    std::copy_n(totals, 6, result.virial);
    result.n_pairs = static_cast<long>(totals[6] + 0.5);
    std::copy_n(energies, n_local_, result.energies);
    for (int row = 0; row < n_rows_; row++, sums += SUMS) {
      std::copy_n(sums, 3, result.forces + 3 * static_cast<size_t>(row));
      if (result.atom_virials)
        std::copy_n(sums + 3, 6, result.atom_virials + 6 * static_cast<size_t>(row));
    }
  }

  // what a step gives: totals, energies of own atoms, forces and virials of rows
  double *energies() const { return out_.get() + TOTALS; }
  double *sums() const { return energies() + n_local_; }

  int device_;
  std::string name_;
  double cutoff_;
  int n_layers_, n_basis_, n_filters_, width_, n_knots_, stride_ = 0, rows_in_block_ = 8,
      most_rows_ = 8, n_processors_ = 1;
  Activation inner_;
  std::vector<Linear<Real>> in2f_, f2out0_, f2out1_;
  std::vector<std::vector<Linear<Real>>> readout_;    // of each network
  std::vector<Readout<Real>> networks_;
  std::vector<DeviceBuffer<Real>> tables_;
  DeviceBuffer<Real> embedding_;
  DeviceBuffer<double> offsets_;
  std::vector<Real> first_y_;    // of each species

  int n_local_ = 0, n_rows_ = 0;
  size_t n_atoms_ = 0;
  DeviceBuffer<int> first_, partner_, from_, to_, species_, n_pairs_, overlap_;
  DeviceBuffer<Pair<Real>> pairs_;
  DeviceBuffer<Direction<Real>> directions_;
  DeviceBuffer<Real> x_, gradient_, message_, message_gradient_, y_gradient_, foreign_;
  std::vector<DeviceBuffer<Real>> y_, slopes_;
  DeviceBuffer<double> positions_, strip_sums_, out_;
  PinnedBuffer host_out_;
  size_t n_out_ = 0;
  std::vector<Real> host_;
};

}    // namespace
}    // namespace mlsel

extern "C" __attribute__((visibility("default"))) mlsel::CompressedModel *
mlsel_cuda(const mlsel::ModelFile &file, int device, int rank_on_node, int *device_used)
{
  int n_devices = 0;
  const cudaError_t code = cudaGetDeviceCount(&n_devices);
  if (code != cudaSuccess || n_devices < 1)
    throw std::runtime_error(std::string("there is no GPU here: ") +
                             (code == cudaSuccess ? "CUDA counts none" : cudaGetErrorString(code)) +
                             "; take device cpu");
  if (device >= n_devices)
    throw std::runtime_error("device is cuda:" + std::to_string(device) +
                             ", but the GPUs here are 0 to " + std::to_string(n_devices - 1));
  *device_used = device >= 0 ? device : rank_on_node % n_devices;
  if (!file.has_compressed)
    throw std::runtime_error("the file has no tables for the compressed mode");
  if (file.dtype == "float32") return new mlsel::CudaModel<float>(file, *device_used);
  return new mlsel::CudaModel<double>(file, *device_used);
}
