// TorchScript models for pair_schnet: the one file that includes torch.

#include <dlfcn.h>
#include <malloc.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>
#include <ATen/Parallel.h>
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/cuda.h>

#include <exception>
#include <sstream>
#include <string>
#include <vector>

#include "torch_backend.h"

namespace {

using torch::jit::IValue;
using Tensor = at::Tensor;

struct Model {
  torch::jit::Module module;
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  int n_layers = 0;
  std::vector<int> widths;    // of features before, between and after the layers

  // one step
  int64_t n_local = 0, n_mirrored = 0;
  Tensor vectors, receivers, senders, numbers;
  std::vector<Tensor> edges;          // with the graph back to the vectors
  std::vector<Tensor> edge_leaves;    // the same values, where the layers' graphs end
  std::vector<Tensor> edge_gradients;
  std::vector<Tensor> inputs, outputs;    // of each layer
};

std::string cause;

/// A step's tensors are large and soon freed. By its defaults, glibc gives them back to the system
/// and faults every page in again at the next step: 10,000 faults, a quarter of the time.
void keep_freed_memory()
{
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 0x7fffffff);
#endif
}

/// The first line of a torch error says what; the rest is a C++ stack trace.
const char *failed(const std::exception &exception)
{
  cause = exception.what();
  const auto *torch_error = dynamic_cast<const c10::Error *>(&exception);
  if (torch_error) cause = torch_error->what_without_backtrace();
  if (cause.find("TorchScript, serialized code") != std::string::npos ||
      cause.find("Traceback of TorchScript") != std::string::npos) {
    // the sentence stands at the end of TorchScript's traceback
    while (!cause.empty() && (cause.back() == '\n' || cause.back() == ' ')) cause.pop_back();
    const auto line = cause.rfind('\n');
    if (line != std::string::npos) cause = cause.substr(line + 1);
  }
  for (char &c : cause)
    if (c == '\n' || c == '\r' || c == '\t') c = ' ';
  if (cause.size() > 500) cause.resize(500);
  return cause.c_str();
}

template <typename Body> const char *guarded(Body body)
{
  try {
    body();
    return nullptr;
  } catch (const std::exception &exception) {
    return failed(exception);
  } catch (...) {
    cause = "something that is no std::exception was thrown";
    return cause.c_str();
  }
}

Tensor rows(const Model &model, const void *data, int64_t n, int64_t width)
{
  return at::from_blob(const_cast<void *>(data), {n, width}, at::TensorOptions(model.dtype))
      .to(model.device, model.dtype, /*non_blocking=*/false, /*copy=*/true);
}

void write(const Model &model, const Tensor &tensor, void *data)
{
  at::from_blob(data, tensor.sizes(), at::TensorOptions(model.dtype)).copy_(tensor.detach());
}

void write_double(const Tensor &tensor, double *data)
{
  at::from_blob(data, tensor.sizes(), at::TensorOptions(at::kDouble)).copy_(tensor.detach());
}

void check(const Tensor &tensor, const Model &model, int64_t n, int64_t width, const char *what)
{
  TORCH_CHECK(tensor.dim() == 2 && tensor.size(0) == n && tensor.size(1) == width &&
                  tensor.scalar_type() == model.dtype,
              what, " gave a ", tensor.scalar_type(), " tensor of shape ", tensor.sizes(), ", ", n,
              " x ", width, " of ", model.dtype, " expected");
}

void set_graph(Model &model, const mlsel_graph &graph)
{
  const auto integers = [&](const int64_t *data, int64_t n) {
    return at::from_blob(const_cast<int64_t *>(data), {n}, at::TensorOptions(at::kLong))
        .to(model.device, at::kLong, false, true);
  };
  model.n_local = graph.n_local;
  model.n_mirrored = graph.n_mirrored;
  model.numbers = integers(graph.numbers, graph.n_nodes);
  model.receivers = integers(graph.receivers, graph.n_pairs);
  model.senders = integers(graph.senders, graph.n_pairs);
  model.vectors = at::from_blob(const_cast<double *>(graph.vectors), {graph.n_pairs, 3},
                                at::TensorOptions(at::kDouble))
                      .to(model.device, model.dtype, false, true)
                      .requires_grad_(true);
  model.edges = model.module.get_method("edges")({model.vectors}).toTensorVector();
}

Tensor embed(Model &model)
{
  Tensor x = model.module.get_method("embed")({model.numbers}).toTensor();
  check(x, model, model.numbers.size(0), model.widths[0], "embed");
  return x;
}

Tensor interact(Model &model, int layer, const Tensor &x, const std::vector<Tensor> &edges)
{
  return model.module
      .get_method("interact")({static_cast<int64_t>(layer), x, edges, model.receivers,
                               model.senders, model.n_local, model.n_mirrored})
      .toTensor();
}

Tensor readout(Model &model, const Tensor &x)
{
  Tensor energies = model.module.get_method("readout")({x}).toTensor();
  TORCH_CHECK(energies.dim() == 1 && energies.size(0) == model.n_local, "readout gave shape ",
              energies.sizes(), ", one energy for each of ", model.n_local, " atoms expected");
  return energies;
}

Tensor defined(const Tensor &gradient, const Tensor &like)
{
  return gradient.defined() ? gradient : at::zeros_like(like);
}

const char *open(const char *bytes, size_t n, int device, int rank_on_node, int n_threads,
                 int is_double, int n_layers, const int *widths, double cutoff, void **handle,
                 int *device_used)
{
  return guarded([&] {
    // libtorch_cuda is large: only where there is a driver
    if (device != -1)
      if (void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL)) {
        dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
        dlclose(driver);
      }
    const int n_devices = device != -1 && torch::cuda::is_available()
        ? static_cast<int>(torch::cuda::device_count())
        : 0;
    TORCH_CHECK(device < 0 || device < n_devices, "there is no GPU number ", device,
                ": torch sees ", n_devices);
    auto model = std::make_unique<Model>();
    if (device >= 0 || (device == -2 && n_devices > 0)) {
      *device_used = device >= 0 ? device : rank_on_node % n_devices;
      model->device = at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(*device_used));
    } else {
      *device_used = -1;
      at::set_num_threads(n_threads);
      keep_freed_memory();
    }
    // The profiling executor compiles anew whenever the number of pairs changes: at every step.
    torch::jit::getProfilingMode() = false;
    torch::jit::getExecutorMode() = false;
    std::istringstream stream(std::string(bytes, n));
    model->module = torch::jit::load(stream, model->device);
    model->module.eval();
    model->dtype = is_double ? at::kDouble : at::kFloat;
    model->n_layers = n_layers;
    model->widths.assign(widths, widths + n_layers + 1);
    for (const char *method : {"embed", "edges", "interact", "readout"})
      TORCH_CHECK(model->module.find_method(method).has_value(), "the model has no method ",
                  method);
    const auto agrees = [&](const char *name, double told) {
      if (!model->module.hasattr(name)) return;
      const IValue value = model->module.attr(name);
      TORCH_CHECK(!value.isScalar() || value.toScalar().toDouble() == told, "the file tells of ",
                  name, " ", told, ", its model of ", value.toScalar().toDouble());
    };
    agrees("cutoff", cutoff);
    agrees("n_layers", n_layers);
    for (at::Tensor parameter : model->module.parameters()) {
      TORCH_CHECK(parameter.scalar_type() == model->dtype, "the file tells of numbers of ",
                  model->dtype, ", its model has some of ", parameter.scalar_type());
      parameter.requires_grad_(false);
    }
    *handle = model.release();
  });
}

void close(void *handle) { delete static_cast<Model *>(handle); }

const char *evaluate(void *handle, const mlsel_graph *graph, double *energies, double *gradients)
{
  auto &model = *static_cast<Model *>(handle);
  return guarded([&] {
    set_graph(model, *graph);
    Tensor x = embed(model);
    for (int layer = 0; layer < model.n_layers; layer++) {
      x = interact(model, layer, x, model.edges);
      check(x, model, model.n_local, model.widths[layer + 1], "interact");
    }
    const Tensor energy = readout(model, x);
    write_double(energy, energies);
    const auto gradient = torch::autograd::grad({energy.sum()}, {model.vectors}, {}, std::nullopt,
                                                false, /*allow_unused=*/true);
    write_double(defined(gradient[0], model.vectors), gradients);
    model.edges.clear();
  });
}

const char *begin(void *handle, const mlsel_graph *graph, void *features)
{
  auto &model = *static_cast<Model *>(handle);
  return guarded([&] {
    set_graph(model, *graph);
    model.edge_leaves.clear();
    model.edge_gradients.assign(model.edges.size(), Tensor());
    for (const Tensor &edge : model.edges)
      model.edge_leaves.push_back(edge.detach().requires_grad_(true));
    model.inputs.assign(model.n_layers, Tensor());
    model.outputs.assign(model.n_layers, Tensor());
    write(model, embed(model), features);
  });
}

const char *forward(void *handle, int layer, const void *features, int width, void *out,
                    int out_width)
{
  auto &model = *static_cast<Model *>(handle);
  return guarded([&] {
    model.inputs[layer] =
        rows(model, features, model.numbers.size(0), width).requires_grad_(layer > 0);
    model.outputs[layer] = interact(model, layer, model.inputs[layer], model.edge_leaves);
    check(model.outputs[layer], model, model.n_local, out_width, "interact");
    write(model, model.outputs[layer], out);
  });
}

const char *read_out(void *handle, double *energies, void *gradient, int width)
{
  auto &model = *static_cast<Model *>(handle);
  return guarded([&] {
    const Tensor x = model.outputs.back().detach().requires_grad_(true);
    check(x, model, model.n_local, width, "the last layer");
    const Tensor energy = readout(model, x);
    write_double(energy, energies);
    const auto found = torch::autograd::grad({energy.sum()}, {x}, {}, std::nullopt, false, true);
    write(model, defined(found[0], x), gradient);
  });
}

const char *backward(void *handle, int layer, const void *gradient_out, int out_width,
                     void *gradient, int width)
{
  auto &model = *static_cast<Model *>(handle);
  return guarded([&] {
    std::vector<Tensor> by = model.edge_leaves;
    if (layer > 0) by.push_back(model.inputs[layer]);
    const Tensor out = rows(model, gradient_out, model.n_local, out_width);
    const auto found =
        torch::autograd::grad({model.outputs[layer]}, by, {out}, std::nullopt, false, true);
    for (size_t k = 0; k < model.edge_leaves.size(); k++) {
      if (!found[k].defined()) continue;
      Tensor &sum = model.edge_gradients[k];
      sum = sum.defined() ? sum + found[k] : found[k];
    }
    if (layer > 0) {
      const Tensor inward = defined(found.back(), model.inputs[layer]);
      check(inward, model, model.numbers.size(0), width, "the gradient");
      write(model, inward, gradient);
    }
    model.inputs[layer] = model.outputs[layer] = Tensor();
  });
}

const char *finish(void *handle, double *gradients)
{
  auto &model = *static_cast<Model *>(handle);
  return guarded([&] {
    std::vector<Tensor> outputs, by;
    for (size_t k = 0; k < model.edges.size(); k++)
      if (model.edge_gradients[k].defined() && model.edges[k].requires_grad()) {
        outputs.push_back(model.edges[k]);
        by.push_back(model.edge_gradients[k]);
      }
    Tensor found;
    if (!outputs.empty())
      found = torch::autograd::grad(outputs, {model.vectors}, by, std::nullopt, false, true)[0];
    write_double(defined(found, model.vectors), gradients);
    model.edges.clear();
    model.edge_leaves.clear();
    model.edge_gradients.clear();
  });
}

const mlsel_torch_api api = {open, close, evaluate, begin, forward, read_out, backward, finish};

}    // namespace

extern "C" __attribute__((visibility("default"))) const mlsel_torch_api *mlsel_torch()
{
  return &api;
}
