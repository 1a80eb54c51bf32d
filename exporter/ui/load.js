// Requests to the agent. Each ends after a time, so a hanging agent is noticed.
export const timeout = 10_000; // milliseconds

export const silent = "The agent does not answer.";

// load returns the document at a URL of this page. It is parsed by the browser
// and inert: no script in it runs, and no string is turned into markup here.
export function load(url, signal) {
  return new Promise((resolve, reject) => {
    const fail = (text) => {
      healthUnknown();
      reject(new Error(text));
    };
    const request = new XMLHttpRequest();
    request.open("GET", url);
    request.responseType = "document";
    request.timeout = timeout;
    request.onload = () => {
      if (request.response?.getElementById("health")) {
        resolve(request.response);
      } else {
        fail(request.status === 200 ? "The answer is not a page of the agent." : `The agent answered ${request.status}.`);
      }
    };
    request.onerror = () => fail(silent);
    request.ontimeout = () => fail(`The agent has not answered within ${timeout / 1000} seconds.`);
    request.onabort = () => reject(new DOMException("another request came", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send();
  });
}

// ask sends a request and returns the answer. An error has a message for people.
export async function ask(path, method = "GET") {
  let answer;
  try {
    answer = await fetch(path, { method, signal: AbortSignal.timeout(timeout) });
  } catch (error) {
    healthUnknown();
    throw new Error(error.name === "TimeoutError" ? `The agent has not answered within ${timeout / 1000} seconds.` : silent);
  }
  if (!answer.ok) {
    throw new Error((await answer.text()).trim() || `The agent answered ${answer.status}.`);
  }
  return answer;
}

// healthUnknown withdraws the good health that the page shows, as it may have ended. The
// next refresh shows the health again.
function healthUnknown() {
  const good = document.querySelector("#health .good");
  if (good) {
    good.textContent = "Health unknown";
    good.className = "soft";
  }
}
