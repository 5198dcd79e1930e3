// Runs a package of AOTInductor:
//
//   run_package model.pt2 images.bin answers.bin ROWS CHANNELS HEIGHT WIDTH
//
// images.bin: float32, row by row, [rows, channels, height, width]. Prints the
// class of each row; answers.bin gets all scores, float32, [rows, classes].
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

at::Tensor read_images(
    const std::string& path, const std::vector<int64_t>& shape) {
  at::Tensor images = at::empty(shape, at::kFloat);
  const auto bytes = static_cast<std::streamsize>(images.nbytes());
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file || file.tellg() != bytes) {
    throw std::runtime_error(path + " does not hold these images as float32.");
  }
  file.seekg(0);
  file.read(static_cast<char*>(images.data_ptr()), bytes);
  // The package reads them in the memory layout that it was made with.
  return images.contiguous(at::MemoryFormat::ChannelsLast);
}

void write_scores(const std::string& path, const at::Tensor& scores) {
  const auto bytes = static_cast<std::streamsize>(scores.nbytes());
  std::ofstream file(path, std::ios::binary);
  file.write(static_cast<const char*>(scores.data_ptr()), bytes);
  if (!file) {
    throw std::runtime_error(path + " cannot be written.");
  }
}

int main(int argc, char** argv) {
  if (argc != 8) {
    std::cerr << "run_package model.pt2 images.bin answers.bin "
                 "ROWS CHANNELS HEIGHT WIDTH\n";
    return 2;
  }
  // Without it another shape than the packaged one is computed in silence.
  setenv("AOTI_RUNTIME_CHECK_INPUTS", "1", 1);
#ifdef __GLIBC__
  // What one operator gives back is kept for the next: mapping takes time.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
#endif
  try {
    std::vector<int64_t> shape;
    for (int i = 4; i < argc; ++i) {
      shape.push_back(std::stoll(argv[i]));
    }
    c10::InferenceMode no_gradients;
    at::Tensor images = read_images(argv[2], shape);
    torch::inductor::AOTIModelPackageLoader model(argv[1]);
    at::Tensor scores = model.run({images}).at(0).to(at::kFloat).contiguous();
    write_scores(argv[3], scores);
    at::Tensor classes = scores.argmax(1);
    for (int64_t row = 0; row < classes.size(0); ++row) {
      std::cout << classes[row].item<int64_t>() << "\n";
    }
  } catch (const c10::Error& error) {
    std::cerr << error.what_without_backtrace() << "\n";
    return 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
