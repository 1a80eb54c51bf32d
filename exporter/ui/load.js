// load returns the document at a URL of this page. It is parsed by the browser
// and inert: no script in it runs, and no string is turned into markup here.
export function load(url, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    request.responseType = "document";
    request.onload = () => request.response
      ? resolve(request.response)
      : reject(new Error(`The agent answered ${request.status}.`));
    request.onerror = () => reject(new Error("The agent does not answer."));
    request.onabort = () => reject(new DOMException("another request came", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send();
  });
}
